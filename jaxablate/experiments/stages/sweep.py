"""kind: sweep. One finetuning for each value of a setting, each a run of its own.

rates: {kind: sweep, of: stage3b, over: schedule.peak, values: [1e-5, 2e-5, 5e-5]}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxablate.core.config import build
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.settings import Settings, merge
from jaxablate.experiments.job import Job
from jaxablate.experiments.spec import BASE, Stage, only, without
from jaxablate.experiments.stage import KINDS, Bench, Kind
from jaxablate.experiments.stages.finetune import FinetuneJob
from jaxablate.runs.folder import clean

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What is varied.

    Attributes:
        over: a setting of finetuning, such as "schedule.peak".
        values: one run each.
        of: finetuning stage whose settings the runs take over; empty takes the defaults.
    """

    over: str
    values: list
    of: str = ""

    def __post_init__(self) -> None:
        if not self.values:
            raise UserError("a sweep needs at least one value, got none")
        names = [label(value) for value in self.values]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"a sweep has the value {twice} twice")


OWN = ("over", "values", "of")


class Sweep(Kind):
    """Several finetunings of one model."""

    trains = True

    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """One job for each value."""
        from jaxablate.training.config import FinetuneConfig

        sweep = read_sweep(stage)
        settings = bench.settings(stage, "finetune", OWN, FinetuneConfig)
        if sweep.of:
            varied = bench.settings(_varied(stage, bench.stages), "finetune", (), FinetuneConfig)
            settings = merge(varied, without(stage.settings, OWN))
        origin = stage.settings.source("values") or "values"
        if bench.seed is not None and sweep.over == "seed":
            raise UserError("a sweep over seed and the experiment's seeds exclude each other")
        settings = bench.seeded(settings)
        return tuple(
            bench.job(
                FinetuneJob,
                stage,
                merge(settings, _one(sweep.over, value, origin)),
                FinetuneConfig,
                name=f"{stage.name}-{label(value)}",
                title="",
                sweep={"setting": sweep.over, "value": value, "group": stage.name},
            )
            for value in sweep.values
        )

    def model(self, stage: Stage, stages: Mapping[str, Stage]) -> str:
        """The model that is written, else that of the stage it varies."""
        of = read_sweep(stage).of
        return stage.model or (_varied(stage, stages).model if of else "") or BASE

    def own(self, stage: Stage) -> dict[str, Any]:
        """What is varied."""
        sweep = read_sweep(stage)
        return {"over": sweep.over, "values": list(sweep.values)}


KINDS.register("sweep")(Sweep())


def read_sweep(stage: Stage) -> SweepConfig:
    """What a stage varies."""
    return build(SweepConfig, only(stage.settings, OWN))


def _varied(stage: Stage, stages: Mapping[str, Stage]) -> Stage:
    """The finetuning stage whose settings a sweep takes over."""
    name = read_sweep(stage).of
    known = [each.name for each in stages.values() if each.kind == "finetune"]
    if name not in known:
        raise unknown("finetuning stage", name, known)
    return stages[name]


def _one(path: str, value: Value, origin: str) -> Settings:
    """One setting by its dotted path."""
    values: Any = value
    for part in reversed(path.split(".")):
        values = {part: values}
    return Settings(values, {path: origin})


def label(value: object) -> str:
    """A value as part of a name.

    >>> label(2e-5), label("prefix_lm")
    ('2e-05', 'prefix_lm')
    """
    if not isinstance(value, Value):
        raise UserError(f"a sweep's values are numbers or words, got {value!r:.80}")
    return clean(str(value))
