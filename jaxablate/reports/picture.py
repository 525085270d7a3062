"""A report inside a notebook: its accuracies as a matplotlib picture, and the page itself."""

from html import escape
from typing import Any

from jaxablate.core.picture import COLOURS, INK, QUIET, Picture
from jaxablate.core.text import visible
from jaxablate.reports.render import html
from jaxablate.reports.view import Result, View


def accuracy_picture(view: View) -> Picture:
    """One panel a task: accuracy and 95 % interval of each mask, and chance as a dashed line.

    The marks of leaky masks are hollow and their names say LEAKY, as on the page.
    """
    masks = [condition.label for condition in view.conditions]
    picture = Picture(1.6 + 2.9 * len(view.tasks), 0.9 + 0.34 * len(masks))
    grid = picture.grid(1, len(view.tasks), sharey=True)[0]
    for axes, task in zip(grid, view.tasks, strict=True):
        results = view.results_of(task)
        for line, result in enumerate(results):
            _draw(axes, line, result)
        axes.axvline(results[0].chance, color=QUIET, linewidth=1, linestyle=(0, (3, 3)))
        axes.set_title(f"{task} (n = {results[0].num_items})", fontsize=9)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(len(masks) - 0.5, -0.5)
        axes.set_xlabel("accuracy, 95 % interval; dashed: chance", fontsize=8)
        axes.tick_params(labelsize=8, length=0)
        axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    names = [f"{c.label}  LEAKY" if c.leaky else c.label for c in view.conditions]
    grid[0].set_yticks(range(len(masks)), map(visible, names))
    return picture


class Page:
    """The HTML report of a view, shown by a notebook in a frame of its own."""

    def __init__(self, view: View, *, height: int = 700):
        """The page of this view, in a frame `height` pixels high."""
        self.text, self.height = html(view), height

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 1px solid #d9dce0"
        return f'<iframe title="report" style="{style}" srcdoc="{escape(self.text)}"></iframe>'


def _draw(axes: Any, line: int, result: Result) -> None:
    colour, found = COLOURS[result.condition.colour], result.accuracy
    ends = [found.value if end is None else end for end in (found.low, found.high)]
    axes.plot(ends, [line, line], color=colour, linewidth=2, alpha=0.6)
    fill = "white" if result.condition.leaky else colour
    axes.plot(found.value, line, "o", markersize=6, mec=colour, mfc=fill, mew=1.5)
    axes.annotate(
        f"{found.value:.2f}",
        (found.value, line),
        (0, 5),
        textcoords="offset points",
        ha="center",
        fontsize=7,
        color=INK,
    )
