"""Which run folders are behind each figure and table."""

from collections.abc import Collection, Iterator

from jaxablate.reports.experiment_view import Origin
from jaxablate.reports.finetune import FinetuneRun
from jaxablate.reports.load import Run
from jaxablate.reports.matrix import Matrix
from jaxablate.reports.places import moved
from jaxablate.reports.study import Scored, Study


def origins(study: Study, matrix: Matrix) -> tuple[Origin, ...]:
    """Every figure or cell with its runs: folder, fingerprint of the config, digest of weights."""
    return tuple(
        Origin(
            figure=figure,
            stopped=stopped,
            run=run.id,
            fingerprint=_fingerprint(run, study.places)[:12],
            weights=_weights(run)[:12],
        )
        for figure, stopped, run in _found(study, matrix)
    )


def _found(study: Study, matrix: Matrix) -> Iterator[tuple[str, str, Run | FinetuneRun]]:
    """What a run is shown in, the rule that stopped its model, and the run."""
    shown = {run.path for cell in (*matrix.cells, *matrix.others) for run, _ in cell.every}
    for one in study.scored:
        masks = ", ".join(result.name for result in one.run.results)
        if one.run.path in shown:
            yield f"scores: {_named(one)} under {masks}", one.model.stopped, one.run
        elif one.dose and one.run.results:
            yield f"dose over {one.dose.axis}: {_named(one)}", one.model.stopped, one.run
        elif one.run.results:
            what = "sweep" if one.model.sweep else "further tasks"
            yield f"{what}: {_named(one)} under {masks}", one.model.stopped, one.run
    for model in study.models:
        members = model.members or ((None, model.run),)
        for seed, run in members:
            if run is not None and run.summary:
                what = "sweep" if model.sweep else "training"
                named = model.name if seed is None else f"{model.name}, seed {seed}"
                yield f"{what}: losses of {named}", run.stopped, run


def _named(one: Scored) -> str:
    return one.model.name if one.seed is None else f"{one.model.name}, seed {one.seed}"


def _fingerprint(run: Run | FinetuneRun, places: Collection[str]) -> str:
    """Of the config as the appendix shows it."""
    found = moved(run, places) if isinstance(run, Run) else moved(run, places)
    return str(found.manifest.get("fingerprint", "?"))


def _weights(run: Run | FinetuneRun) -> str:
    source = run.manifest.get("source")
    told = source.get("weights") if isinstance(source, dict) else None
    return str(run.manifest.get("weights") or told or "?")
