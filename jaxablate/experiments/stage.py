"""A kind of stage turns what is written of a stage into jobs. `KINDS` has them by name."""

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

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
        seeds: of finetunings; empty where each has its own.
        built: the jobs of the stages that are built already.
        seed: the one that jobs are built for now; None for those that need none.
    """

    root: Path
    checkpoint: str
    defaults: Mapping[str, Settings]
    stages: Mapping[str, Stage]
    seeds: tuple[int, ...] = ()
    built: dict[str, tuple[Job, ...]] = field(default_factory=dict)
    seed: int | None = None

    def build(self, stage: Stage) -> tuple[Job, ...]:
        """All jobs of a stage: once, or once for each seed."""
        kind = KINDS.get(stage.kind)
        seeds = self.seeds if self.is_seeded(stage) else ()
        benches = [dataclasses.replace(self, seed=seed) for seed in seeds] or [self]
        return tuple(job for bench in benches for job in kind.jobs(stage, bench))

    def is_seeded(self, stage: Stage) -> bool:
        """Whether a stage trains, or works on what is trained."""
        kind = KINDS.get(stage.kind)
        model = kind.model(stage, self.stages)
        maker = self.stage_of(model) if model is not None else None
        return kind.trains or (maker is not None and self.is_seeded(self.stages[maker]))

    def stage_of(self, model: str) -> str | None:
        """The stage that makes a model; None for a checkpoint from outside."""
        name = self.checkpoint if model == BASE else model
        return None if model == BASE and name not in self.stages else name

    def makers(self, model: str) -> tuple[Job | None, ...]:
        """The jobs that make what `model` names; a sweep has several, the base may have None."""
        name = self.stage_of(model)
        if name is None:
            return (None,)
        jobs = self._of_seed(name)
        if not all(job.output for job in jobs):
            raise self._makes_none(name)
        return jobs

    def _maker(self, model: str) -> Job | None:
        found, *more = self.makers(model)
        if more:
            raise self._makes_none(str(self.stage_of(model)))
        return found

    def _of_seed(self, name: str) -> tuple[Job, ...]:
        """A stage's jobs of the seed in hand, and those that have none."""
        return tuple(job for job in self.built[name] if job.seed in (None, self.seed))

    def _makes_none(self, name: str) -> UserError:
        made = ((n, self._of_seed(n)) for n in self.built)
        makers = [n for n, jobs in made if len(jobs) == 1 and jobs[0].output]
        return UserError(
            f"model {name!r} is of kind {self.stages[name].kind!r}, which makes no one "
            f"checkpoint; those that do: {', '.join((BASE, *makers))}"
        )

    def settings(self, stage: Stage, kind: str, own: tuple[str, ...], config: type) -> Settings:
        """A stage's settings over the defaults of a kind, `own` ones left out; keys are checked."""
        fields = tuple(item.name for item in dataclasses.fields(config) if item.name not in PLACED)
        known = (*COMMON, *own, *fields)
        check_keys(stage.settings, known, f"setting of a stage of kind {stage.kind!r}")
        check_keys(self.defaults[kind], fields, f"setting of {kind!r}")
        return merge(self.defaults[kind], without(stage.settings, own))

    def seeded(self, settings: Settings) -> Settings:
        """Settings of a finetuning with the seed in hand; raises `UserError` if they have one."""
        if self.seed is None:
            return settings
        if "seed" in settings.values:
            raise UserError(
                f"{settings.source('seed') or 'seed'}: the experiment's seeds "
                f"{list(self.seeds)} decide the seed of a finetuning; leave it out, or leave out "
                "seeds"
            )
        return merge(settings, Settings({"seed": self.seed}, {"seed": "seeds"}))

    def job(
        self,
        kind: type[J],
        stage: Stage,
        settings: Settings,
        config: type,
        *,
        maker: Job | None = None,
        **more: Any,
    ) -> J:
        """A job of a stage on what `maker` made (default: its model), its config from settings."""
        model = KINDS.get(stage.kind).model(stage, self.stages) or BASE
        maker = maker or self._maker(model)
        source = (maker and maker.output) or Checkpoint(self.checkpoint, None, self.checkpoint)
        word = model if model == BASE or maker is None else maker.group
        origin = {"checkpoint": f"model {word!r}"}
        settings = merge(settings, Settings({"checkpoint": source.path}, origin))
        built = build(config, settings)
        given = {"name": stage.name, "title": stage.title, **more}
        suffix = "" if self.seed is None else f"_s{self.seed}"
        return kind(
            **{**given, "name": given["name"] + suffix},
            stage=stage.name,
            model=word,
            source=source,
            needs=self.needs(stage, maker),
            root=self.root,
            config=built,
            provenance=provenance(built, settings),
            maker=None if model == BASE or maker is None else maker.name,
            seed=self.seed,
        )

    def without_model(self, kind: type[J], stage: Stage, settings: Settings, config: Any) -> J:
        """A job of a stage that works on no model."""
        return kind(
            name=stage.name,
            stage=stage.name,
            title=stage.title,
            model=None,
            source=None,
            needs=self.needs(stage),
            root=self.root,
            config=config,
            provenance=provenance(config, settings),
        )

    def needs(self, stage: Stage, maker: Job | None = None) -> tuple[str, ...]:
        """Names of the jobs that come before a stage's, of its model only `maker`."""
        found = []
        for name in self.stages_before(stage):
            own = maker is not None and maker.stage == name
            found += [maker] if own and maker else self.built[name]
        return tuple(job.name for job in found)

    def stages_before(self, stage: Stage) -> tuple[str, ...]:
        """Names of the stages that a stage needs, that of its model first."""
        model = KINDS.get(stage.kind).model(stage, self.stages)
        first = self.stage_of(model) if model is not None else None
        return tuple(dict.fromkeys((*([first] if first else []), *stage.needs)))


class Kind(abc.ABC):
    """How a stage of one kind is read.

    `trains` says that what it makes depends on a seed of training.
    """

    trains: ClassVar[bool] = False

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


class Maker(Kind):
    """A stage that makes its model, and so works on none."""

    def model(self, stage: Stage, stages: Mapping[str, Stage]) -> None:
        """It works on no model."""
        del stages
        if stage.model:
            raise UserError(f"stage {stage.name!r} makes a model and has none, got {stage.model!r}")


KINDS: Registry[Kind] = Registry("kind of stage")
