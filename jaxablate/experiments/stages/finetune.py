"""kind: finetune. A model trained under a mask.

stage3b: {kind: finetune, model: base, mask: prefix_lm, steps: 1200}
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxablate.data.sft_config import check_data
from jaxablate.experiments.guard import refuse_leak
from jaxablate.experiments.job import Checkpoint, Hooks, Job
from jaxablate.experiments.spec import Stage
from jaxablate.experiments.stage import KINDS, Bench, Kind

if TYPE_CHECKING:
    from jaxablate.training.config import FinetuneConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneJob(Job):
    """One finetuning; `sweep` says which value of which sweep it is."""

    kind = "finetune"
    config: "FinetuneConfig"
    sweep: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Checkpoint:
        """The run's folder is a checkpoint, of the size of its base."""
        base = self.source.base if self.source else str(self.path)
        return Checkpoint(str(self.path), self.run, base)

    def default_title(self) -> str:
        """Model and mask, and the value in a sweep."""
        words = f"{self.model} trained under {self.masks}"
        return f"{words}, {self.sweep['setting']} {self.sweep['value']}" if self.sweep else words

    @property
    def masks(self) -> str:
        """The training mask."""
        return self.config.mask

    def check(self) -> None:
        """Masks, and whether the data is there."""
        if not self.config.allow_leaky:
            refuse_leak(self.config.mask)
        check_data(self.config.data)

    def execute(self, hooks: Hooks) -> None:
        """Train, or go on."""
        from jaxablate.training.finetune import finetune

        config = self.placed()
        finetune(config, provenance=self.provenance, observers=hooks.observers(config.trackers))

    def entry(self) -> dict[str, Any]:
        """The job in experiment.json, with its place in a sweep."""
        return {**super().entry(), **({"sweep": self.sweep} if self.sweep else {})}


class Finetune(Kind):
    """One finetuning of one model."""

    trains = True

    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """One job."""
        from jaxablate.training.config import FinetuneConfig

        settings = bench.seeded(bench.settings(stage, "finetune", (), FinetuneConfig))
        return (bench.job(FinetuneJob, stage, settings, FinetuneConfig),)


KINDS.register("finetune")(Finetune())
