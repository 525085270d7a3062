"""kind: model. A checkpoint made from nothing, so that an experiment needs none from outside.

tiny_model: {kind: model, make: tiny, seed: 0}
"""

import shutil
from dataclasses import dataclass
from typing import Literal

from jaxablate.core.config import build, relevant
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest, sha256_file
from jaxablate.experiments.job import Checkpoint, Hooks, Job
from jaxablate.experiments.spec import COMMON, Stage, check_keys
from jaxablate.experiments.stage import KINDS, Bench, Maker
from jaxablate.experiments.tiny import write_tiny_model
from jaxablate.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model to make.

    Attributes:
        make: "tiny", a Qwen3 of two layers with random weights.
        seed: of the weights.
    """

    make: Literal["tiny"] = "tiny"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed must be >= 0, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class ModelJob(Job):
    """One model."""

    kind = "model"
    config: ModelConfig

    @property
    def output(self) -> Checkpoint:
        """The folder with the weights."""
        folder = f"{self.run}/{self.config.make}"
        return Checkpoint(str(self.root / folder), folder, str(self.root / folder))

    @property
    def masks(self) -> str:
        """None."""
        return ""

    def default_title(self) -> str:
        """What it is, and that it knows nothing."""
        return f"{self.config.make} model with random weights, seed {self.config.seed}"

    def check(self) -> None:
        """Nothing can be wrong."""

    def execute(self, hooks: Hooks) -> None:
        """Write the model; what an attempt that was killed left is thrown away first."""
        del hooks
        with RunFolder.open(
            self.root, kind=self.kind, slug=self.name, config=relevant(self.config), name=self.run
        ) as run:
            folder = run.path / self.config.make
            if run.done:
                return
            shutil.rmtree(folder, ignore_errors=True)
            write_tiny_model(folder, seed=self.config.seed)
            files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
            run.note(weights=digest(files), files=files, provenance=self.provenance)
            run.finish("done")


class Model(Maker):
    """A model made from nothing."""

    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """One job."""
        check_keys(stage.settings, (*COMMON, "make", "seed"), "setting of a stage of kind 'model'")
        config = build(ModelConfig, stage.settings)
        return (bench.without_model(ModelJob, stage, stage.settings, config),)


KINDS.register("model")(Model())
