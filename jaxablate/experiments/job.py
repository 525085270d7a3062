"""A job is one run folder of an experiment: what decides its content, and how it is made."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from jaxablate.core.config import differences, relevant, resolved
from jaxablate.core.files import digest, read_json
from jaxablate.runs.folder import MANIFEST, read_manifest

PLACED = ("checkpoint", "out", "runs")  # settings that the experiment decides


@dataclass(frozen=True)
class Checkpoint:
    """What a stage works on.

    Attributes:
        path: folder or hub id, as a config takes it.
        inside: the same relative to the experiment's folder; None when it lies elsewhere.
        base: the folder or hub id that it was finetuned from, if it was; else `path`.
    """

    path: str
    inside: str | None
    base: str

    def sizes(self) -> dict[str, int] | None:
        """Numbers of layers and heads, where a Hugging Face config.json tells them already."""
        path = Path(self.base) / "config.json"
        if not path.is_file():
            return None
        found = read_json(path)
        found = found.get("text_config", found)
        sizes = {axis: found.get(f"num_{name}") for axis, name in _SIZES.items()}
        return sizes if all(isinstance(size, int) for size in sizes.values()) else None


_SIZES = {"layers": "hidden_layers", "heads": "attention_heads"}


def _silent(sentence: str) -> None:
    del sentence


def _nobody(trackers: Sequence[str]) -> Sequence[Any]:
    del trackers
    return ()


@dataclass(frozen=True)
class Hooks:
    """Who is told what while stages run.

    Attributes:
        say: takes one sentence.
        progress: makes what an evaluation tells of its items; None is its own choice.
        observers: makes what a finetuning tells of its steps, from the names of its trackers.
    """

    say: Callable[[str], None] = _silent
    progress: Callable[[], Any] = field(default=lambda: None)
    observers: Callable[[Sequence[str]], Sequence[Any]] = _nobody


@dataclass(frozen=True, kw_only=True)
class Job(abc.ABC):
    """One run folder, and everything that decides what will be in it.

    Attributes:
        name: of its entry in the experiment; a stage with several jobs adds to its own name.
        group: that name without the seed: equal for runs that differ in nothing else.
        seed: of the finetuning that it is or works on, where the experiment has several.
        stage: the stage it belongs to.
        title: heading in the report; empty makes one.
        model: group whose checkpoint it works on, or "base"; None when it makes one from nothing.
        maker: name of the job that makes that checkpoint; None for "base", or when there is none.
        source: that checkpoint.
        needs: names of the jobs that come first.
        root: the experiment's folder.
        config: a frozen config of the kind, its checkpoint and its folder filled in.
        provenance: where each setting was written.
    """

    kind: ClassVar[str]
    name: str
    stage: str
    title: str
    model: str | None
    source: Checkpoint | None
    needs: tuple[str, ...]
    root: Path
    config: Any
    provenance: dict[str, str] = field(default_factory=dict)
    maker: str | None = None
    seed: int | None = None

    @property
    def group(self) -> str:
        """The name without the seed."""
        return self.name if self.seed is None else self.name.removesuffix(f"_s{self.seed}")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the results, without any path of the experiment's own folder."""
        return {"kind": self.kind, "config": self.portable(relevant(self.config))}

    @cached_property
    def run(self) -> str:
        """The folder's name: it changes with the config, and with that of the checkpoint's run."""
        return f"{self.name}-{digest(self.identity)[:6]}"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.root / self.run

    @property
    def output(self) -> Checkpoint | None:
        """The checkpoint that this job makes."""
        return None

    def default_title(self) -> str:
        """Heading of a stage that gives none."""
        return f"{self.model} under {self.masks}"

    @property
    @abc.abstractmethod
    def masks(self) -> str:
        """Its masks in a few words, for a table."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raise `UserError` for what can be seen to be wrong before anything runs."""

    @abc.abstractmethod
    def execute(self, hooks: Hooks) -> None:
        """Do the work, or go on with it."""

    def portable(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A run's config with a checkpoint inside the experiment named relative to it."""
        inside = self.source.inside if self.source else None
        found = config.get("checkpoint")
        if inside is not None and isinstance(found, str):
            parts, path = Path(inside).parts, Path(found)
            if path.parts[-len(parts) :] == parts:
                return {**config, "checkpoint": inside}
            if path.is_relative_to(self.root):
                return {**config, "checkpoint": str(path.relative_to(self.root))}
        return dict(config)

    def wanted(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What the config of this job's run must be; `config` is that of a run there is."""
        del config
        return self.identity["config"]

    def changes(self, config: Mapping[str, Any]) -> list[str]:
        """How a run's config differs from this job's, one line each; empty if it is the job's."""
        return differences(self.portable(config), self.wanted(config))

    def placed(self) -> Any:
        """The config with the run's folder.

        A run that was begun keeps the words for its checkpoint: runs/x and /home/me/runs/x may be
        one folder.
        """
        own = {"out": str(self.path)}
        if (self.path / MANIFEST).exists():
            begun = read_manifest(self.path)["config"].get("checkpoint")
            if isinstance(begun, str) and Path(begun).exists():
                own["checkpoint"] = begun
        return dataclasses.replace(self.config, **own)

    def settings(self) -> dict[str, Any]:
        """Every setting that a stage can give, as YAML takes it."""
        return {name: v for name, v in resolved(self.config).items() if name not in PLACED}

    def entry(self) -> dict[str, Any]:
        """The job in experiment.json."""
        seeded = {} if self.seed is None else {"seed": self.seed, "group": self.group}
        return {
            "name": self.name,
            "kind": self.kind,
            "model": self.maker or self.model,
            "run": self.run,
            "needs": list(self.needs),
            "title": self.title or self.default_title(),
            **seeded,
        }
