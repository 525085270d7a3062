"""What a report shows, as plain values: the templates only lay it out."""

from dataclasses import dataclass
from statistics import stdev
from typing import Any

# Colours of conditions in order (Okabe and Ito's palette, distinct without colour vision), and
# marker outlines for the same order, so that no reader depends on colour.
MARKERS = (
    "M0,-5.5A5.5,5.5,0,1,1,0,5.5A5.5,5.5,0,1,1,0,-5.5Z",  # circle
    "M-5,-5H5V5H-5Z",  # square
    "M0,-7L6,4.5H-6Z",  # triangle up
    "M0,-7L7,0L0,7L-7,0Z",  # diamond
    "M0,7L6,-4.5H-6Z",  # triangle down
    "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",  # plus
)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval; the ends are None where a run gave none.

    `seeds` are the same number of each training seed, where there are several.
    """

    value: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None where there are not several."""
        return stdev(self.seeds) if len(self.seeds) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One mask of one run: a row of every table, a colour and a marker of every figure.

    `model` and `mask` are what was scored and how, in a report with trained models. `stopped` is
    the rule that ended the model's training early, or empty.
    """

    label: str
    algebra: str
    run: str
    index: int
    leaky: bool
    baseline: bool
    model: str = ""
    mask: str = ""
    stopped: str = ""

    @property
    def colour(self) -> int:
        """Number of the colour, the same for the same place in the list."""
        return self.index % len(MARKERS)

    @property
    def marker(self) -> str:
        """Outline of the marker as an SVG path around the origin."""
        return MARKERS[self.index % len(MARKERS)]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One condition on one task, or over all tasks (`task` is "macro")."""

    condition: Condition
    task: str
    num_items: int
    accuracy: Estimate
    chance: float
    corrected: Estimate
    verdict: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A condition against the baseline on the same questions.

    `recovery` is the ratio of the accuracies, `retention` that of what lies above chance; the
    latter needs a baseline above chance. `against` is the baseline.
    """

    condition: Condition
    task: str
    num_items: int
    value: Estimate
    p_value: float | None
    adjusted: float | None
    verdict: str
    recovery: Estimate | None
    retention: Estimate | None
    against: Condition | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number that stands beside a published one; `runs` are the folders behind it."""

    label: str
    what: str
    value: Estimate
    leaky: bool
    runs: tuple[str, ...]
    chance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Told:
    """A published claim, its numbers, ours, and why they differ."""

    claim: str
    source: str
    cause: str
    published: tuple[tuple[str, str], ...]
    measured: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What others published, beside what this experiment measured."""

    title: str
    intro: str
    claims: tuple[Told, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """A whole report."""

    title: str
    warnings: tuple[str, ...]
    conditions: tuple[Condition, ...]
    tasks: tuple[str, ...]
    results: tuple[Result, ...]
    differences: tuple[Difference, ...]
    macro: tuple[Result, ...]
    macro_differences: tuple[Difference, ...]
    runs: tuple[dict[str, Any], ...]
    methods: tuple[str, ...]

    def results_of(self, task: str) -> list[Result]:
        """Results of one task in the order of the conditions."""
        return [result for result in self.results if result.task == task]

    def differences_of(self, task: str) -> list[Difference]:
        """Differences of one task in the order of the conditions."""
        return [difference for difference in self.differences if difference.task == task]

    def difference_of(self, condition: Condition) -> Difference | None:
        """A condition's difference over all tasks."""
        found = (d for d in self.macro_differences if d.condition == condition)
        return next(found, None)

    @property
    def kept(self) -> tuple[Difference, ...]:
        """Comparisons for which a ratio to the baseline has a meaning."""
        every = self.differences + self.macro_differences
        return tuple(d for d in every if d.recovery is not None)

    @property
    def reach(self) -> float:
        """Half width of the axis of differences: the widest interval, rounded up to 0.05."""
        ends = [
            abs(end)
            for difference in (*self.differences, *self.macro_differences)
            for end in (difference.value.value, difference.value.low, difference.value.high)
            if end is not None
        ]
        return max(0.05, -(-max(ends, default=0.05) // 0.05) * 0.05)


def rounded(value: float, digits: int) -> float:
    """A number as it is shown; what rounds to zero has no minus.

    >>> rounded(-0.0001, 3)
    0.0
    """
    return round(float(value), digits) + 0.0
