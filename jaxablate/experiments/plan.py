"""An experiment as jobs in order, every setting checked, and what each of them still needs."""

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxablate.core.config import resolved
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import digest
from jaxablate.core.settings import Settings
from jaxablate.experiments.graph import order, select
from jaxablate.experiments.job import Job
from jaxablate.experiments.spec import (
    ExperimentConfig,
    Stage,
    naming,
    read_experiment,
    table,
)
from jaxablate.experiments.stage import KINDS, Bench
from jaxablate.runs.folder import MANIFEST, read_manifest


@dataclass(frozen=True)
class Plan:
    """All jobs of an experiment.

    Attributes:
        config: the experiment as it is written.
        root: its folder.
        stages: stage to its jobs, in the order in which they can run.
        written: the stages as they are written, in that order.
        needs: stage to the stages it needs.
    """

    config: ExperimentConfig
    root: Path
    stages: dict[str, tuple[Job, ...]]
    written: tuple[Stage, ...]
    needs: dict[str, tuple[str, ...]]

    def jobs(self, stages: Iterable[str] | None = None) -> list[Job]:
        """The jobs of some stages and of what they need, or all, in the order to run."""
        names = self.stages if stages is None else select(self.needs, stages)
        return [job for name in names for job in self.stages[name]]

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a result or a criterion."""
        criteria = resolved(self.config)["criteria"]
        return digest([criteria, *(job.identity for job in self.jobs())])

    def resolved(self) -> dict[str, Any]:
        """The experiment with every setting written out, as YAML takes it."""
        head = resolved(self.config)
        stages = {}
        for stage in self.written:
            jobs = self.stages[stage.name]
            kind = KINDS.get(stage.kind)
            named = kind.model(stage, {each.name: each for each in self.written})
            model = {"model": named} if named else {}
            needs = {"needs": list(stage.needs)} if stage.needs else {}
            own = {**kind.own(stage), **jobs[0].settings()}
            if kind.trains and jobs[0].seed is not None:
                del own["seed"]
            stages[stage.name] = {"kind": stage.kind, "title": stage.title, **model, **needs, **own}
        seeds = ("seeds",) if self.config.seeds else ()
        head = {key: head[key] for key in ("name", "checkpoint", "criteria", *seeds, "runs")}
        return {**head, "stages": stages}


class State(NamedTuple):
    """What there is of a job.

    Attributes:
        word: "done", "to resume", "new", or "changed": done before under other settings.
        earlier: folder of the newest run under other settings.
        changes: what differs from it, one line each.
    """

    word: str
    earlier: str = ""
    changes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What changed."""
        changes = "; ".join(self.changes) or "how its doses are written"
        return f"settings changed since {self.earlier}, which is kept: {changes}"


def make_plan(settings: Settings, root: str | Path | None = None) -> Plan:
    """The plan of an experiment's settings.

    Args:
        settings: of an `ExperimentConfig`.
        root: folder of the experiment, in place of the one that is written.

    Raises:
        UserError: for anything wrong in the settings of any stage.
    """
    importlib.import_module("jaxablate.experiments.stages")
    config, stages = read_experiment(settings)
    bench = Bench(
        root=Path(root or config.runs or f"runs/{config.name}"),
        checkpoint=config.checkpoint,
        defaults={name: table(settings, name) for name in ("evaluate", "finetune")},
        stages={stage.name: stage for stage in stages},
        seeds=config.seeds,
    )
    needs = {}
    for stage in stages:
        with naming(f"stage {stage.name!r}"):
            needs[stage.name] = bench.stages_before(stage)
    for name in order(needs):
        stage = bench.stages[name]
        with naming(f"stage {name!r}"):
            bench.built[name] = bench.build(stage)
    _check_criteria(config, bench)
    _check_names(bench)
    return Plan(config, bench.root, bench.built, tuple(stages), needs)


def state_of(job: Job) -> State:
    """What there is of a job in the experiment's folder."""
    if (job.path / MANIFEST).exists():
        manifest = read_manifest(job.path)
        if manifest["kind"] == job.kind and not job.changes(manifest["config"]):
            return State("done" if manifest.get("status") == "done" else "to resume")
        changes = "; ".join(job.changes(manifest["config"]))
        raise UserError(f"{job.path}: holds a run of another config: {changes}")
    earlier = _newest(job)
    if earlier is None:
        return State("new")
    changes = job.changes(read_manifest(earlier)["config"])
    return State("changed", earlier.name, tuple(changes))


def _newest(job: Job) -> Path | None:
    """The newest run of a job's name under other settings."""
    name = re.compile(re.escape(job.name) + "-[0-9a-f]{6}")
    found = []
    for path in job.root.glob(f"{job.name}-*"):
        if name.fullmatch(path.name) and (path / MANIFEST).is_file():
            manifest = read_manifest(path)
            if manifest["kind"] == job.kind:
                found.append((str(manifest.get("created", "")), path.name))
    return job.root / max(found)[1] if found else None


def _check_criteria(config: ExperimentConfig, bench: Bench) -> None:
    if config.criteria is None:
        return
    tuned = config.criteria.tuned
    known = [name for name, stage in bench.stages.items() if stage.kind == "finetune"]
    if tuned not in known:
        raise UserError(f"criteria.tuned: {unknown('finetuning stage', tuned, known)}")


def _check_names(bench: Bench) -> None:
    """Jobs of a sweep have names of their own, which must not be those of others."""
    names = [job.name for jobs in bench.built.values() for job in jobs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two runs would have the name {twice!r}")
