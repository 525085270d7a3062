"""Line charts as plain numbers, in per cent of the plot's width and height; templates draw them.

The page has no scripts, so a chart stretches with the page: lines in a stretched box, dots, bars
and labels at percentages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaxablate.reports.view import MARKERS

MOST_POINTS = 160
Number = float | int
Point = tuple[Number, Number | None]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: points by rising x; None in y is a gap. `intervals` are (x, low, high).

    `dots` draws a marker at every point. A hollow line is that of a leaky mask.
    """

    label: str
    points: tuple[Point, ...]
    colour: int = 0
    dashed: bool = False
    quiet: bool = False
    hollow: bool = False
    dots: bool = True
    intervals: tuple[tuple[Number, Number, Number], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series placed in the plot."""

    label: str
    colour: int
    marker: str
    dashed: bool
    quiet: bool
    hollow: bool
    path: str
    dots: tuple[tuple[str, str], ...]
    bars: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label at a place on an axis."""

    at: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """All that a template needs to draw one chart."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    reference: str | None
    reference_label: str


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_values: Sequence[Number] | None = None,
    y_range: tuple[Number, Number] | None = None,
    reference: tuple[str, Number] | None = None,
    log_x: bool = False,
) -> Chart | None:
    """The chart of some series; None when there is no point in any of them.

    Args:
        title: what it shows.
        series: the lines.
        x_label: what stands under the horizontal axis.
        y_label: what stands above the vertical axis.
        x_values: ticks of the horizontal axis; default: round numbers.
        y_range: ends of the vertical axis; default: around all points and intervals.
        reference: a horizontal dashed line, its label and height.
        log_x: the horizontal axis is logarithmic; its ticks are `x_values`.
    """
    xs = [x for one in series for x, y in one.points if y is not None]
    if not xs:
        return None
    low, high = y_range or value_range(series, [reference[1]] if reference else [])
    across = _Axis(*_ends(xs, x_values), log=log_x)
    up = _Axis(low, high, down=True)
    x_ticks = sorted(set(x_values)) if x_values is not None else ticks(min(xs), max(xs), whole=True)
    return Chart(
        title=title,
        x_label=x_label,
        y_label=y_label,
        lines=tuple(_line(one, across, up) for one in series),
        x_ticks=tuple(Tick(at=across.per_cent(x), label=_number(x)) for x in x_ticks),
        y_ticks=tuple(Tick(at=up.per_cent(y), label=_number(y)) for y in ticks(low, high)),
        reference=up.per_cent(reference[1]) if reference else None,
        reference_label=reference[0] if reference else "",
    )


def value_range(series: Sequence[Series], more: Sequence[Number] = ()) -> tuple[Number, Number]:
    """Ends of a vertical axis that holds all points, intervals and some further values."""
    values = [y for one in series for _, y in one.points if y is not None]
    values += [end for one in series for _, *ends in one.intervals for end in ends]
    values += more
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def ticks(low: Number, high: Number, *, whole: bool = False, wanted: int = 5) -> list[float]:
    """Round numbers between two ends, about as many as wanted.

    >>> ticks(0.0, 1200.0, whole=True)
    [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0]
    >>> ticks(0.31, 0.52)
    [0.35, 0.4, 0.45, 0.5]
    """
    if high <= low:
        return [float(low)]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= 0.8 * rough)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most so many points: the last x and the mean y of equal groups of neighbours."""
    size = -(-len(points) // most) if points else 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((group[-1][0], _mean([y for _, y in group])) for group in groups)


@dataclass(frozen=True)
class _Axis:
    low: Number
    high: Number
    down: bool = False
    log: bool = False

    def place(self, value: Number) -> float:
        """Per cent of the way, kept within the plot."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = math.log(value) if self.log else value
        share = (value - low) / (high - low) if high > low else 0.5
        share = min(1.0, max(0.0, share))
        return 100 * (1 - share if self.down else share)

    def per_cent(self, value: Number) -> str:
        return f"{self.place(value):.2f}%"


def _ends(xs: Sequence[Number], more: Sequence[Number] | None) -> tuple[Number, Number]:
    values = [*xs, *(more or ())]
    return min(values), max(values)


def _line(series: Series, across: _Axis, up: _Axis) -> Line:
    real = [(x, y) for x, y in series.points if y is not None]
    return Line(
        label=series.label,
        colour=series.colour % len(MARKERS),
        marker=MARKERS[series.colour % len(MARKERS)],
        dashed=series.dashed,
        quiet=series.quiet,
        hollow=series.hollow,
        path=_path(series.points, across, up),
        dots=tuple((across.per_cent(x), up.per_cent(y)) for x, y in real) if series.dots else (),
        bars=tuple(
            (across.per_cent(x), up.per_cent(low), up.per_cent(high))
            for x, low, high in series.intervals
        ),
    )


def _path(points: Sequence[Point], across: _Axis, up: _Axis) -> str:
    """SVG path through the points; a gap begins a new part."""
    found = []
    for (_, before), (x, y) in pairwise([(0.0, None), *points]):
        if y is not None:
            letter = "M" if before is None else "L"
            found.append(f"{letter}{across.place(x):.2f},{up.place(y):.2f}")
    return "".join(found)


def _mean(values: Sequence[Number | None]) -> Number | None:
    real = [value for value in values if value is not None]
    return sum(real) / len(real) if real else None


def _number(value: Number) -> str:
    """A tick's label: no more digits than it needs.

    >>> _number(200.0), _number(0.35), _number(2e-5)
    ('200', '0.35', '2e-05')
    """
    return f"{value:.6g}"
