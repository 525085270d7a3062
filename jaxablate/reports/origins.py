"""Which run folders are behind each figure and table."""

from collections.abc import Iterator

from jaxablate.reports.experiment_view import Origin
from jaxablate.reports.matrix import Matrix
from jaxablate.reports.places import AnyRun, moved
from jaxablate.reports.study import Scored, Study


def origins(study: Study, matrix: Matrix) -> tuple[Origin, ...]:
    """Every figure or cell with its runs: folder, fingerprint of the config, digest of weights."""
    return (*_scores(study, matrix), *_trainings(study))


def _scores(study: Study, matrix: Matrix) -> Iterator[Origin]:
    shown = {run.path for cell in (*matrix.cells, *matrix.others) for run, _ in cell.every}
    for one in study.scored:
        if not one.run.results:
            continue
        masks = ", ".join(result.name for result in one.run.results)
        figure = f"further tasks: {_named(one)} under {masks}"
        if one.run.path in shown:
            figure = f"scores: {_named(one)} under {masks}"
        elif one.dose:
            figure = f"dose over {one.dose.axis}: {_named(one)}"
        elif one.model.sweep:
            figure = f"sweep: {_named(one)} under {masks}"
        yield _origin(figure, one.model.stopped, one.run, study)


def _trainings(study: Study) -> Iterator[Origin]:
    for model in study.models:
        own = ((None, model.run),) if model.run else ()
        for seed, run in model.members or own:
            if run.summary:
                what = "sweep" if model.sweep else "training"
                named = model.name if seed is None else f"{model.name}, seed {seed}"
                yield _origin(f"{what}: losses of {named}", run.stopped, run, study)


def _origin(figure: str, stopped: str, run: AnyRun, study: Study) -> Origin:
    source = run.manifest.get("source")
    told = source.get("weights") if isinstance(source, dict) else None
    return Origin(
        figure=figure,
        stopped=stopped,
        run=run.id,
        # Of the config as the appendix shows it.
        fingerprint=str(moved(run, study.places).manifest.get("fingerprint", "?"))[:12],
        weights=str(run.manifest.get("weights") or told or "?")[:12],
    )


def _named(one: Scored) -> str:
    return one.model.name if one.seed is None else f"{one.model.name}, seed {one.seed}"
