"""A kind of stage turns what is written of a stage into jobs. `KINDS` has them by name."""

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jaxablate.core.config import build, provenance
from jaxablate.core.errors import UserError
from jaxablate.core.registry import Registry
from jaxablate.core.settings import Settings, merge
from jaxablate.experiments.job import PLACED, Checkpoint, Job
from jaxablate.experiments.spec import BASE, COMMON, Stage, check_keys, without

J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Bench:
    """What kinds build their jobs from: the experiment as far as it is built.

    Attributes:
        root: the experiment's folder.
        checkpoint: what `model: base` means.
        defaults: "evaluate" and "finetune" to their default settings.
        stages: all stages by name.
        built: the jobs of the stages that are built already.
    """

    root: Path
    checkpoint: str
    defaults: Mapping[str, Settings]
    stages: Mapping[str, Stage]
    built: dict[str, tuple[Job, ...]] = field(default_factory=dict)

    def stage_of(self, model: str) -> str | None:
        """The stage that makes a model; None for a checkpoint from outside."""
        name = self.checkpoint if model == BASE else model
        return None if model == BASE and name not in self.stages else name

    def source(self, model: str) -> Checkpoint:
        """The checkpoint that `model` names."""
        name = self.stage_of(model)
        if name is None:
            return Checkpoint(self.checkpoint, None, self.checkpoint)
        jobs = self.built[name]
        found = jobs[0].output if len(jobs) == 1 else None
        if found is None:
            makers = [n for n, made in self.built.items() if len(made) == 1 and made[0].output]
            raise UserError(
                f"model {name!r} is of kind {self.stages[name].kind!r}, which makes no one "
                f"checkpoint; those that do: {', '.join((BASE, *makers))}"
            )
        return found

    def settings(self, stage: Stage, kind: str, own: tuple[str, ...], config: type) -> Settings:
        """A stage's settings over the defaults of a kind, `own` ones left out; keys are checked."""
        fields = tuple(item.name for item in dataclasses.fields(config) if item.name not in PLACED)
        known = (*COMMON, *own, *fields)
        check_keys(stage.settings, known, f"setting of a stage of kind {stage.kind!r}")
        check_keys(self.defaults[kind], fields, f"setting of {kind!r}")
        return merge(self.defaults[kind], without(stage.settings, own))

    def job(self, kind: type[J], stage: Stage, settings: Settings, config: type, **more: Any) -> J:
        """A job of a stage on the stage's model, its config built from settings."""
        model = KINDS.get(stage.kind).model(stage, self.stages) or BASE
        source = self.source(model)
        origin = {"checkpoint": f"model {model!r}"}
        settings = merge(settings, Settings({"checkpoint": source.path}, origin))
        built = build(config, settings)
        return kind(
            **{"name": stage.name, "title": stage.title, **more},
            stage=stage.name,
            model=model,
            source=source,
            needs=self.needs(stage),
            root=self.root,
            config=built,
            provenance=provenance(built, settings),
        )

    def needs(self, stage: Stage) -> tuple[str, ...]:
        """Names of the jobs that come before a stage's."""
        return tuple(job.name for name in self.stages_before(stage) for job in self.built[name])

    def stages_before(self, stage: Stage) -> tuple[str, ...]:
        """Names of the stages that a stage needs, that of its model first."""
        model = KINDS.get(stage.kind).model(stage, self.stages)
        first = self.stage_of(model) if model is not None else None
        return tuple(dict.fromkeys((*([first] if first else []), *stage.needs)))


class Kind(abc.ABC):
    """How a stage of one kind is read."""

    def model(self, stage: Stage, stages: Mapping[str, Stage]) -> str | None:
        """The model that the stage works on; None when it makes one from nothing."""
        del stages
        return stage.model or BASE

    @abc.abstractmethod
    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """The stage's runs; raises `UserError` for a wrong setting."""

    def own(self, stage: Stage) -> dict[str, Any]:
        """Settings of the stage that none of its jobs has by itself."""
        del stage
        return {}


KINDS: Registry[Kind] = Registry("kind of stage")
