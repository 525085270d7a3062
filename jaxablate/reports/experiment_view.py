"""What the report of an experiment shows, as plain values: the templates only lay it out."""

from dataclasses import dataclass
from typing import Any

from jaxablate.reports.charts import Chart
from jaxablate.reports.finetune import Evaluation
from jaxablate.reports.leakage import Leak
from jaxablate.reports.study import Model, Scored
from jaxablate.reports.text_sources import TextSource
from jaxablate.reports.view import Beside, Condition, Difference, Estimate, Result


@dataclass(frozen=True, kw_only=True)
class Column:
    """A mask under which models were scored; `index` picks colour and marker."""

    mask: str
    algebra: str
    leaky: bool
    index: int


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A condition of success: what was wanted, what was found, and the verdict."""

    name: str
    wanted: str
    value: Estimate | None
    signed: bool
    verdict: str
    notes: tuple[str, ...] = ()

    @property
    def tone(self) -> str:
        """good, bad or open, for the page's colours."""
        return {"met": "good", "not met": "bad"}.get(self.verdict, "open")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A table of paired differences, task by task and then over all tasks.

    `ratios` shows the share of the baseline that is left.
    """

    title: str
    intro: str
    rows: tuple[Difference, ...]
    ratios: bool


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training run in the table of runs."""

    model: Model
    mask: str
    leaky: bool
    steps: str
    reason: str
    trained: int
    total: int
    tokens: int | None
    targets: int | None
    train_loss: float | None
    used: str
    alarms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SeedRow:
    """One seed of a training, and its held-out loss under one mask."""

    training: Training
    mask: str
    best: Evaluation | None
    last: Evaluation | None


@dataclass(frozen=True, kw_only=True)
class Text:
    """What a pretraining learned from; `epochs` says how often it was read."""

    model: Model
    sources: tuple[TextSource, ...]
    epochs: float

    @property
    def dropped(self) -> int:
        """Places that were cut out because they stand in protected rows."""
        return sum(one.total_dropped for one in self.sources)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Held-out losses of one run under one mask: before, lowest, last, and what decoding sees."""

    model: Model
    mask: str
    leaky: bool
    first: Evaluation
    best: Evaluation | None
    last: Evaluation
    decoded: Evaluation | None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A run's losses by step: a chart, and its held-out points as a table."""

    model: Model
    chart: Chart
    masks: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Evaluation | None, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class DoseRow:
    """A model with so many layers or heads ablated."""

    scored: Scored
    count: int
    algebra: str
    macro: Result
    tasks: tuple[Result | None, ...]
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class DoseResponse:
    """Accuracy against the number of ablated layers or heads."""

    axis: str
    charts: tuple[Chart, ...]
    tasks: tuple[str, ...]
    rows: tuple[DoseRow, ...]


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """A value of the swept setting, with the held-out loss that it led to."""

    model: Model
    value: str
    steps: str
    reason: str
    last: Evaluation | None
    best: Evaluation | None
    scores: tuple[tuple[Result, Difference | None] | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SweepTable:
    """All runs of one sweep; `columns` are the masks under which they were scored."""

    group: str
    setting: str
    mask: str
    charts: tuple[Chart, ...]
    rows: tuple[SweepRow, ...]
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A condition on an instrument: its score, and what it keeps of the baseline's."""

    result: Result
    difference: Difference | None
    learned: bool


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A run folder behind a figure or a table."""

    figure: str
    stopped: str
    run: str
    fingerprint: str
    weights: str


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A whole report."""

    title: str
    lead: str
    warnings: tuple[str, ...]
    summary: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    models: tuple[Model, ...]
    columns: tuple[Column, ...]
    tasks: tuple[str, ...]
    results: tuple[Result, ...]
    macro: tuple[Result, ...]
    kept: tuple[Difference, ...]
    recovery_goal: float | None
    baseline_mask: str
    comparisons: tuple[Comparison, ...]
    further: tuple[Result, ...]
    training: tuple[Training, ...]
    texts: tuple[Text, ...]
    losses: tuple[Loss, ...]
    curves: tuple[Curves, ...]
    leaks: tuple[Leak, ...]
    doses: tuple[DoseResponse, ...]
    sweeps: tuple[SweepTable, ...]
    instruments: tuple[Kept, ...]
    canaries: tuple[Result, ...]
    seeds: tuple[SeedRow, ...]
    origins: tuple[Origin, ...]
    runs: tuple[dict[str, Any], ...]
    facts: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    beside: Beside | None = None

    def result(self, model: Model, column: Column, task: str | None = None) -> Result | None:
        """A model under a mask on one task, or over all of them."""
        among = self.macro if task is None else (r for r in self.results if r.task == task)
        return next((r for r in among if _is(r.condition, model, column)), None)

    def difference(self, model: Model, column: Column) -> Difference | None:
        """A model under a mask against the baseline, over all tasks."""
        found = (d for d in self.kept if _is(d.condition, model, column))
        return next(found, None)

    def trained(self, model: Model) -> Training | None:
        """How a model was trained."""
        return next((row for row in self.training if row.model.name == model.name), None)

    @property
    def seeded(self) -> tuple[Result, ...]:
        """Conditions of several seeds."""
        return tuple(result for result in self.macro if result.accuracy.seeds)

    @property
    def alarms(self) -> tuple[Training, ...]:
        """Runs in which an alarm was raised."""
        return tuple(row for row in self.training if row.alarms)

    @property
    def recovered(self) -> tuple[Difference, ...]:
        """Comparisons with a ratio to the baseline."""
        return tuple(d for d in self.kept if d.recovery is not None)

    @property
    def recovery_reach(self) -> float:
        """End of the axis of ratios: the highest interval, rounded up to a quarter, at most 3."""
        ends = [d.recovery.high or 0.0 for d in self.recovered if d.recovery]
        return min(3.0, max(1.25, -(-max(ends, default=1.0) // 0.25) * 0.25))


def _is(condition: Condition, model: Model, column: Column) -> bool:
    return (condition.model, condition.algebra) == (model.name, column.algebra)
