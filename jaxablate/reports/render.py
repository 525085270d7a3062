"""A view as one HTML page that loads nothing, and as Markdown. Every value is escaped."""

from collections.abc import Iterable
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jaxablate.core.files import write_atomic
from jaxablate.core.text import visible
from jaxablate.reports.experiment_view import Overview
from jaxablate.reports.view import View, rounded

# Characters that begin markup in Markdown or HTML, or end a table cell.
_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "\\`*_{}[]<>#|!~&$"})


def html(view: View) -> str:
    """The page: light and dark, readable on a phone, without scripts."""
    return _environment(markdown=False).get_template("report.html.jinja").render(view=view)


def markdown(view: View) -> str:
    """The same tables as Markdown."""
    return _environment(markdown=True).get_template("report.md.jinja").render(view=view)


def experiment_html(view: Overview) -> str:
    """The page of an experiment."""
    return _environment(markdown=False).get_template("experiment.html.jinja").render(view=view)


def experiment_markdown(view: Overview) -> str:
    """The same as Markdown."""
    return _environment(markdown=True).get_template("experiment.md.jinja").render(view=view)


def card_markdown(card: Any) -> str:
    """A model card, from a `reports.card.Card`."""
    return _environment(markdown=True).get_template("card.md.jinja").render(card=card)


def write_pages(name: Path, page: str, text: str) -> tuple[Path, Path]:
    """Write `name`.html and `name`.md; returns their paths."""
    paths = name.with_name(f"{name.name}.html"), name.with_name(f"{name.name}.md")
    name.parent.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, (page, text), strict=True):
        write_atomic(path, content)
    return paths


@cache
def _environment(*, markdown: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("jaxablate.reports", "templates"),
        autoescape=not markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_markdown_value if markdown else _html_value,
    )
    environment.filters["raw"] = Markup
    environment.filters["groups"] = _groups
    environment.globals.update(
        percent=_percent,
        p_value=_p_value,
        bounded=_bounded,
        rounded=rounded,
        grouped="{:,}".format,
    )
    return environment


def _html_value(value: Any) -> Any:
    """Text without control characters and bidi marks: they could reorder what a reader sees."""
    text = visible(value)
    return Markup(text) if isinstance(value, Markup) else text


def _markdown_value(value: Any) -> str:
    """Text in which no letter is markup; templates mark their own markup with `| raw`."""
    if isinstance(value, Markup):
        return str(value)
    return visible(value).replace("\n", " ").translate(_MARKDOWN)


def _percent(value: float, low: float, high: float) -> str:
    """Where a value lies on an axis, as an SVG length; values outside stay at the edge.

    >>> _percent(0.5, 0.0, 1.0)
    '50.00%'
    """
    return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.2f}%"


def _p_value(value: float | None) -> str:
    """A p value with as many digits as it deserves.

    >>> _p_value(0.00002), _p_value(0.0412), _p_value(None)
    ('< 0.001', '0.041', '-')
    """
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _bounded(value: float) -> str:
    """A ratio; one over next to nothing has no size worth printing.

    >>> _bounded(0.8312), _bounded(1e9)
    ('0.83', '> 99')
    """
    if abs(value) > 99:
        return "> 99" if value > 0 else "< -99"
    return f"{value:.2f}"


def _groups(rows: Iterable[Any], path: str) -> list[tuple[Any, list[Any]]]:
    """Neighbouring rows that agree in an attribute such as "model.name", with its value."""
    return [(key, list(group)) for key, group in groupby(rows, attrgetter(path))]
