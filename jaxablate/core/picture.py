"""Pictures for notebooks and files: one look, a light ground, colours told apart by everybody."""

from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's palette, darkened where a thin line or a small letter would be too faint.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b3558c", "#8a6d00", "#3f4750")
GROUND, INK, QUIET, EMPTY = "#ffffff", "#1d2126", "#5c646e", "#e6e8eb"


class Picture(Figure):
    """A matplotlib figure that a notebook shows when it is the last value of a cell.

    It needs neither pyplot nor a backend; `savefig` writes it to a file.
    """

    def __init__(self, width: float, height: float):
        """An empty picture of this size in inches."""
        super().__init__(figsize=(width, height), dpi=130, facecolor=GROUND)
        self.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)

    def grid(self, rows: int, columns: int, **options: Any) -> np.ndarray:
        """Empty axes [rows, columns]; options are those of `Figure.subplots`."""
        return self.subplots(rows, columns, squeeze=False, **options)

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def label_slots(axes: Any, across: list[str], down: list[str], *, size: float = 7.0) -> None:
    """Label every column above and every row beside a table drawn with `imshow`."""
    upright = 0 if max(map(len, across), default=0) <= 1 else 90
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(across)), across, rotation=upright, fontsize=size)
    axes.set_yticks(range(len(down)), down, fontsize=size)
    axes.tick_params(length=0, pad=2, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)


def separate_cells(axes: Any, rows: int, columns: int) -> None:
    """Thin lines of the ground's colour between the cells of a table drawn with `imshow`."""
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=GROUND, linewidth=0.8)
    axes.tick_params(which="minor", length=0)
