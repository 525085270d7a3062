"""How a model of an experiment came to be: its trainings in order, and the evaluations of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import read_json
from jaxablate.reports import load
from jaxablate.reports.experiment import EXPERIMENT, SHAPE, run_folder
from jaxablate.reports.finetune import FinetuneRun, finetuned_from, load_finetune
from jaxablate.reports.load import Run
from jaxablate.reports.shapes import match
from jaxablate.runs.folder import TRAINING


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training stage and its run."""

    stage: str
    title: str
    run: FinetuneRun


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An evaluation stage and its run."""

    stage: str
    title: str
    run: Run


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A model of an experiment.

    Attributes:
        experiment: its name.
        fingerprint: of its config.
        root: its folder.
        trainings: from the first to the one that made the model.
        evaluations: of the model, in the order of the experiment.
    """

    experiment: str
    fingerprint: str
    root: Path
    trainings: tuple[Trained, ...]
    evaluations: tuple[Evaluated, ...]

    @property
    def model(self) -> Trained:
        """The training that made the model."""
        return self.trainings[-1]

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the run folders."""
        return tuple(one.run.path.name for one in (*self.trainings, *self.evaluations))


def load_lineage(folder: str | Path, model: str) -> Lineage:
    """How a training stage of an experiment made its model.

    Args:
        folder: the experiment's.
        model: name of the training stage.

    Raises:
        UserError: for a stage that there is not, a run that is not done, or files that are not as
            they should be.
    """
    root = Path(folder)
    path = root / EXPERIMENT
    table = read_json(path)
    match(table, SHAPE, "", path)
    stages = [stage for stage in table["stages"] if stage.get("run")]
    trained = _trained(stages, root, path)
    if model not in trained:
        raise unknown(f"training stage of {path}", model, trained)
    chain = _chain(trained[model], {one.run.id: one for one in trained.values()})
    unfinished = next((one.run for one in chain if not one.run.summary), None)
    if unfinished is not None:
        raise UserError(f"{unfinished.path}: is {unfinished.status}, wanted a run that is done")
    return Lineage(
        experiment=table["name"],
        fingerprint=str(table.get("fingerprint") or "?"),
        root=root,
        trainings=chain,
        evaluations=_evaluated(stages, root, path, chain[-1].run.id),
    )


def _trained(stages: Sequence[Mapping[str, Any]], root: Path, path: Path) -> dict[str, Trained]:
    return {
        stage["name"]: Trained(
            stage=stage["name"],
            title=stage.get("title") or stage["name"],
            run=load_finetune(run_folder(stage, root, path)),
        )
        for stage in stages
        if stage["kind"] in TRAINING
    }


def _chain(last: Trained, by_run: Mapping[str, Trained]) -> tuple[Trained, ...]:
    """The trainings that a training goes back to, the first one first."""
    chain = [last]
    while (made := finetuned_from(chain[0].run.manifest)) is not None:
        before = by_run.get(made[0])
        if before is None:
            raise UserError(
                f"{chain[0].run.path}: went on from run {made[0]}, which is not in this experiment"
            )
        if before in chain:
            raise UserError(f"{chain[0].run.path}: went on from itself")
        chain.insert(0, before)
    return tuple(chain)


def _evaluated(
    stages: Sequence[Mapping[str, Any]], root: Path, path: Path, run: str
) -> tuple[Evaluated, ...]:
    """Finished evaluations of what a run made, doses left out."""
    found = []
    for stage in stages:
        if stage["kind"] != load.KIND or stage.get("dose"):
            continue
        scored = load.load_run(run_folder(stage, root, path))
        made = finetuned_from(scored.manifest)
        if scored.results and made is not None and made[0] == run:
            title = stage.get("title") or stage["name"]
            found.append(Evaluated(stage=stage["name"], title=title, run=scored))
    return tuple(found)
