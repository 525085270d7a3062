"""Runs the jobs of a plan in order. What is done is skipped, what was begun goes on.

    <root>/
        experiment.json        every run there is, and the criteria; rewritten after each job
        <job>-<6 hex>/         a run folder each; other settings make another folder
        report.html, report.md

Nothing in experiment.json or the report depends on when, where or in how many attempts it ran.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from jaxablate.core.config import resolved
from jaxablate.core.errors import Stopped, UserError
from jaxablate.core.files import read_json, write_json
from jaxablate.experiments.guard import refuse_absent
from jaxablate.experiments.job import Hooks, Job
from jaxablate.experiments.plan import Plan, State, state_of
from jaxablate.experiments.spec import naming
from jaxablate.runs.folder import MANIFEST, read_manifest
from jaxablate.runs.lock import NAME, FolderLock

EXPERIMENT = "experiment.json"
FORMAT = 1
ALONE = ("model", "convert", "probe")  # kinds of which alone there is no report


@dataclass(frozen=True)
class Outcome:
    """Where an experiment lies, and its report; there is none of nothing but models."""

    path: Path
    page: Path | None
    text: Path | None


def run_experiment(
    plan: Plan, *, stages: Sequence[str] | None = None, hooks: Hooks | None = None
) -> Outcome:
    """Run what is not done of some stages (default: all) and of what they need; write the report.

    Raises:
        UserError: for what is wrong with data, masks or folders, before anything runs where that
            can be seen; and when another process works in the experiment's folder.
        Stopped: by SIGTERM; what is finished is kept, and the same command goes on.
    """
    hooks = hooks or Hooks()
    jobs = plan.jobs(stages)
    check(plan, jobs)
    plan.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.callback(FolderLock(plan.root).release)
        stack.enter_context(_stoppable())
        write_index(plan)
        for number, job in enumerate(jobs, start=1):
            _run_job(job, f"{number}/{len(jobs)} {job.name}", hooks)
            write_index(plan)
            _check_base(plan)
        if any(job.kind not in ALONE for job in jobs):
            return Outcome(plan.root, *_write_report(plan.root))
        return Outcome(plan.root, None, None)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends an evaluation where it stands; training saves first, see `training.stopping`."""

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check(plan: Plan, jobs: Sequence[Job]) -> dict[str, State]:
    """The state of every job by name; raises `UserError` for what is wrong with one to run."""
    _check_root(plan)
    states = {job.name: state_of(job) for job in jobs}
    for job in jobs:
        if states[job.name].word != "done":
            _check_outside(job)
            with naming(f"stage {job.stage!r}"):
                job.check()
    return states


def _check_root(plan: Plan) -> None:
    """The experiment's folder is new, or holds an experiment of this name."""
    root = plan.root
    if (root / EXPERIMENT).exists():
        name = read_json(root / EXPERIMENT).get("name")
        if name != plan.config.name:
            raise UserError(f"{root}: holds experiment {name!r}, wanted {plan.config.name!r}")
    elif root.exists():
        # The lock, and what a kill left of a file that was being written.
        hidden = ("." + EXPERIMENT, NAME)
        others = sorted(p.name for p in root.iterdir() if not p.name.startswith(hidden))
        if others:
            raise UserError(f"{root}: not an experiment and not empty (it has {others[0]!r})")


def _check_outside(job: Job) -> None:
    """A checkpoint from outside must be there."""
    if job.source is not None and job.source.inside is None:
        refuse_absent(job.source.path)


def write_index(plan: Plan) -> None:
    """Write experiment.json: the runs that there are, in the order of the plan."""
    there = [job for job in plan.jobs() if (job.path / MANIFEST).exists()]
    criteria = plan.config.criteria
    index = {
        "format": FORMAT,
        "name": plan.config.name,
        "stages": [job.entry() for job in there],
        "criteria": resolved(criteria) if criteria else {},
        "fingerprint": plan.fingerprint,
    }
    write_json(plan.root / EXPERIMENT, index)


def _run_job(job: Job, what: str, hooks: Hooks) -> None:
    state = state_of(job)
    if state.word == "done":
        hooks.say(f"{what}: done before ({job.run})")
        return
    if state.word == "changed":
        hooks.say(f"{what}: {state.sentence()}")
    begun = " goes on" if state.word == "to resume" else ""
    hooks.say(f"{what}{begun}: {job.title or job.default_title()} ({job.run})")
    with naming(f"stage {job.stage!r}"):
        job.execute(hooks)
    if state_of(job).word != "done":
        raise UserError(f"{job.path}: the run ended without being done")


def _check_base(plan: Plan) -> None:
    """All runs of the checkpoint itself must have read the same weights."""
    found: dict[str, str] = {}
    for job in plan.jobs():
        outside = job.source is not None and job.source.inside is None
        if outside and (job.path / MANIFEST).exists():
            weights = read_manifest(job.path).get("weights")
            if isinstance(weights, str):
                found.setdefault(weights, job.run)
    if len(found) > 1:
        first, other = list(found.values())[:2]
        raise UserError(
            f"{plan.config.checkpoint}: the weights changed between the runs {first} and {other}; "
            "delete the folders of the older weights, or use another folder for this experiment"
        )


def _write_report(root: Path) -> tuple[Path, Path]:
    from jaxablate.reports.experiment import write_report

    return write_report(root)


def read_summary(job: Job) -> dict[str, Any]:
    """summary.json of a finished finetuning."""
    return read_json(job.path / "summary.json")
