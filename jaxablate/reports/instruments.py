"""Scores on instruments, apart from all means; the canary must know nothing."""

from jaxablate.reports.compare import LEAKS
from jaxablate.reports.experiment_view import Kept
from jaxablate.reports.matrix import Matrix
from jaxablate.reports.study import Model
from jaxablate.reports.view import Condition, Result


def kept(matrix: Matrix, models: tuple[Model, ...]) -> tuple[Kept, ...]:
    """Every condition on every instrument but canaries, with what it keeps of the baseline's."""
    canary = canary_names(matrix)
    learned = {(model.name, name) for model in models for name in [_learned(model)] if name}
    differences = {(d.task, _key(d.condition)): d for d in matrix.apart_kept}
    return tuple(
        Kept(
            result=result,
            difference=differences.get((result.task, _key(result.condition))),
            learned=(result.condition.model, result.task) in learned,
        )
        for result in matrix.apart()
        if result.task not in canary
    )


def canaries(matrix: Matrix) -> tuple[Result, ...]:
    """Every condition on what cannot be known."""
    names = canary_names(matrix)
    return tuple(result for result in matrix.apart() if result.task in names)


def canary_names(matrix: Matrix) -> set[str]:
    """Tasks to which there is no answer."""
    every = (*matrix.cells, *matrix.others)
    return {task.name for cell in every for task in cell.result.tasks if task.canary}


def leaking(matrix: Matrix) -> list[str]:
    """A sentence for each honest condition that knows what cannot be known."""
    return [
        f"{result.task} under {result.condition.mask}: {result.condition.model} has "
        f"{result.accuracy.value:.3f} where chance is {result.chance:.3f}. {LEAKS}."
        for result in canaries(matrix)
        if result.verdict == LEAKS
    ]


def _key(condition: Condition) -> tuple[str, str]:
    return condition.model, condition.algebra


def _learned(model: Model) -> str:
    """The set that a model was trained on."""
    data = model.run.config.get("data") if model.run else None
    return str(data.get("name", "")) if isinstance(data, dict) else ""
