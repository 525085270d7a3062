"""kind: convert. A checkpoint from outside as a verified jaxablate folder, which opens faster.

checkpoint: model
stages:
  model: {kind: convert, source: Qwen/Qwen3-0.6B}
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxablate.core.config import build, relevant
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError
from jaxablate.experiments.guard import refuse_absent
from jaxablate.experiments.job import Checkpoint, Hooks, Job
from jaxablate.experiments.spec import COMMON, Stage, check_keys
from jaxablate.experiments.stage import KINDS, Bench, Kind
from jaxablate.runs.folder import RunFolder, clean


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What is converted.

    Attributes:
        source: folder, hub id, or the name of a checkpoint that comes with the package.
        dtype: of the weights; empty keeps their bits.
    """

    source: str
    dtype: str = ""

    def __post_init__(self) -> None:
        if self.dtype:
            object.__setattr__(self, "dtype", parse_dtype(self.dtype))


@dataclass(frozen=True, kw_only=True)
class ConvertJob(Job):
    """One conversion."""

    kind = "convert"
    config: ConvertConfig

    @property
    def output(self) -> Checkpoint:
        """The converted folder, named as its source."""
        folder = f"{self.run}/{clean(Path(self.config.source).name)}"
        return Checkpoint(str(self.root / folder), folder, str(self.root / folder))

    @property
    def masks(self) -> str:
        """None."""
        return ""

    def default_title(self) -> str:
        """What is converted."""
        return f"{self.config.source} converted"

    def check(self) -> None:
        """Whether a folder is there; a hub id is asked for when it runs."""
        refuse_absent(self.config.source)

    def execute(self, hooks: Hooks) -> None:
        """Convert; a folder is there as a whole or not at all."""
        del hooks
        from jaxablate.checkpoints.convert import convert

        with RunFolder.open(
            self.root, kind=self.kind, slug=self.name, config=relevant(self.config), name=self.run
        ) as run:
            if run.done:
                return
            folder = Path(self.output.path)
            shutil.rmtree(folder, ignore_errors=True)
            origin = convert(
                self.config.source, folder, to="jaxablate", dtype=self.config.dtype or None
            )
            run.note(weights=origin["weights"], source=origin, provenance=self.provenance)
            run.finish("done")


class Convert(Kind):
    """A checkpoint converted."""

    def model(self, stage: Stage, stages: Mapping[str, Stage]) -> None:
        """It works on what its `source` names."""
        del stages
        if stage.model:
            raise UserError(
                f"stage {stage.name!r} converts its source, not a model, got {stage.model!r}"
            )

    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """One job."""
        known = (*COMMON, "source", "dtype")
        check_keys(stage.settings, known, "setting of a stage of kind 'convert'")
        config = build(ConvertConfig, stage.settings)
        return (bench.without_model(ConvertJob, stage, stage.settings, config),)


KINDS.register("convert")(Convert())
