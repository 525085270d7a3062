"""kind: pretrain. A checkpoint trained from nothing on text.

base: {kind: pretrain, steps: 2000, rows: 64, data: {sources: [...]}, shape: {layers: 8}}
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from jaxablate.core.config import build
from jaxablate.core.settings import Settings, merge
from jaxablate.data.documents import source_files
from jaxablate.experiments.job import PLACED, Checkpoint, Hooks, Job
from jaxablate.experiments.spec import COMMON, Stage, check_keys
from jaxablate.experiments.stage import KINDS, Bench, Maker

if TYPE_CHECKING:
    from jaxablate.training.pretrain import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class PretrainJob(Job):
    """One pretraining; tokenizer and tokens lie under the experiment's folder."""

    kind = "pretrain"
    config: "PretrainConfig"

    @property
    def output(self) -> Checkpoint:
        """The run's folder."""
        return Checkpoint(str(self.path), self.run, str(self.config.untrained))

    @property
    def masks(self) -> str:
        """The training mask."""
        return self.config.mask

    def default_title(self) -> str:
        """Its name and how long it is trained."""
        return f"{self.config.name}, {self.config.steps} steps from nothing"

    def check(self) -> None:
        """Whether the text is there."""
        for source in self.config.data.sources:
            if source.kind != "synthetic":
                source_files(source)

    def execute(self, hooks: Hooks) -> None:
        """Prepare and train, or go on."""
        from jaxablate.training.pretrain import pretrain

        config = self.placed()
        pretrain(config, provenance=self.provenance, observers=hooks.observers(config.trackers))


class Pretrain(Maker):
    """A model from nothing."""

    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """One job."""
        from jaxablate.training.pretrain import PretrainConfig

        known = tuple(item.name for item in fields(PretrainConfig) if item.name not in PLACED)
        what = "setting of a stage of kind 'pretrain'"
        check_keys(stage.settings, (*COMMON, *known), what)
        own = {"name": stage.name, "runs": str(bench.root)}
        origin = dict.fromkeys(own, "the experiment")
        settings = merge(Settings(own, origin), stage.settings)
        config = build(PretrainConfig, settings)
        return (bench.without_model(PretrainJob, stage, settings, config),)


KINDS.register("pretrain")(Pretrain())
