"""The results page: `results/README.md` with its links, whose targets are copied beside it."""

import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3] / "results"
_LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")


def markdown() -> str:
    """The page without its heading; links and pictures lead to the copies."""
    _, _, text = (ROOT / "README.md").read_text().partition("\n")
    pages = _LINK.sub(lambda found: f"]({_best(found[1])}){{.external}}", text)
    return re.sub(r"!\[([^]]*)\]\(([^)]+)\)\{\.external\}", r"![\1](../../results/\2)", pages)


def _best(target: str) -> str:
    """The page of a report in place of its Markdown twin, which a browser shows as text."""
    page = target.removesuffix(".md") + ".html"
    return page if target.endswith(".md") and (ROOT / page).exists() else target


def copy(app: Any, error: Exception | None) -> None:
    """Everything that the page links to, into the built site."""
    if error is None and app.builder.format == "html":
        shutil.copytree(ROOT, Path(app.outdir) / "results", dirs_exist_ok=True)
