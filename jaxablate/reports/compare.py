"""Conditions against their baseline: paired differences, ratios, and which of them are real."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.reports import facts
from jaxablate.reports.load import TaskResult
from jaxablate.reports.pairs import (
    Cell,
    Function,
    Pair,
    answers,
    counted,
    difference,
    over_tasks,
    p_value,
    pairs,
    ratio_above,
)
from jaxablate.reports.pairs import from_interval as _from
from jaxablate.reports.view import Condition, Difference, Estimate, Result
from jaxablate.runs import replicates, statistics

__all__ = ["Cell", "macro", "macro_difference", "task_differences", "task_result", "task_results"]
LEVEL = 0.05
MACRO = "all tasks"
LEAKY = "leaky: not a measure of skill"
ABOVE, BELOW, AT = "above chance", "below chance", "not distinguishable from chance"
# A canary that guessing would beat so rarely is no chance.
CANARY_LEVEL = 0.001
QUIET, LEAKS = "at chance, as it must be", "ABOVE CHANCE: the scoring leaks"


def _compared(cells: Sequence[Cell], compare: bool) -> list[tuple[Cell, Cell]]:
    """Each condition with its baseline; a leaky baseline is no baseline."""
    bases = [cell for cell in cells if cell.condition.baseline]
    found = []
    for cell in cells:
        base = bases[0] if compare else next(b for b in bases if b.run is cell.run)
        if not cell.condition.baseline and not base.condition.leaky:
            found.append((cell, base))
    return found


def differences(cells: Sequence[Cell], compare: bool) -> list[Difference]:
    """Each condition against its baseline on each task."""
    return task_differences(_compared(cells, compare))


def task_differences(
    compared: Sequence[tuple[Cell, Cell]], tasks: Sequence[str] | None = None
) -> list[Difference]:
    """First cell of each pair against the second on each task; one family for Holm's correction.

    `tasks` are the names of those to compare on; default: all.
    """
    found = [
        _task_difference(cell, base, pair)
        for cell, base in compared
        for pair in pairs(cell, base, _among(base.result.tasks, tasks))
    ]
    return _adjust(found)


def _among(found: Sequence[TaskResult], names: Sequence[str] | None) -> list[TaskResult]:
    return [task for task in found if names is None or task.name in names]


def _task_difference(cell: Cell, base: Cell, pair: Pair) -> Difference:
    settings, leaky = base.settings, cell.condition.leaky
    skilled = _task(base, pair.task).verdict == ABOVE
    recovery, retention = _ratios(pair, settings)
    return Difference(
        condition=cell.condition,
        task=pair.task,
        num_items=pair.total,
        value=over_tasks([pair], difference, **settings),
        p_value=None if leaky else p_value(pair, **settings),
        adjusted=None,
        verdict=LEAKY,
        recovery=None if leaky else recovery,
        retention=None if leaky or not skilled else retention,
        against=base.condition,
    )


def _task(cell: Cell, name: str) -> Result:
    return next(found for found in task_results(cell, plain=True) if found.task == name)


def _ratios(pair: Pair, settings: Mapping[str, int]) -> tuple[Estimate | None, Estimate | None]:
    """Recovery and retention on one task."""
    if not pair.single:
        found = (over_tasks([pair], ratio_above(low), **settings) for low in (0.0, pair.chance))
        return next(found), next(found)
    found = (
        statistics.recovery_ratio(pair.table, **settings),
        statistics.retention(pair.table, pair.chance, **settings),
    )
    recovery, retention = (None if one is None else _from(one) for one in found)
    return recovery, retention


def _adjust(differences: Sequence[Difference]) -> list[Difference]:
    """P values for the whole family of honest comparisons in the report, by Holm's method."""
    tested = [d.p_value for d in differences if d.p_value is not None]
    adjusted = iter(statistics.holm(tested))
    found = []
    for one in differences:
        if one.p_value is None:
            found.append(one)
            continue
        value = next(adjusted)
        distinct = "distinguishable" if value < LEVEL else "not distinguishable"
        found.append(replace(one, adjusted=value, verdict=f"{distinct} from zero"))
    return found


def macro_differences(cells: Sequence[Cell], compare: bool) -> list[Difference]:
    """Each condition against its baseline over all tasks they share."""
    return [macro_difference(cell, base) for cell, base in _compared(cells, compare)]


def macro_difference(cell: Cell, base: Cell) -> Difference:
    """A condition against another over all tasks they share and that count."""
    own = {task.name for task in counted(cell)}
    shared = pairs(cell, base, [task for task in counted(base) if task.name in own])
    if not shared:
        raise UserError(f"{cell.condition.label} has no task in common with its baseline")
    chance = sum(pair.chance for pair in shared) / len(shared)

    def over(function: Function) -> Estimate:
        return over_tasks(shared, function, **base.settings)

    value = over(difference)
    zero = "includes" if (value.low or 0.0) <= 0 <= (value.high or 0.0) else "excludes"
    leaky, skilled = cell.condition.leaky, macro(base).verdict == ABOVE
    return Difference(
        condition=cell.condition,
        task=MACRO,
        num_items=sum(pair.total for pair in shared),
        value=value,
        p_value=None,
        adjusted=None,
        verdict=LEAKY if leaky else f"interval {zero} zero",
        recovery=None if leaky else over(ratio_above(0.0)),
        retention=None if leaky or not skilled else over(ratio_above(chance)),
        against=base.condition,
    )


def macro(cell: Cell) -> Result:
    """A condition over all tasks that count."""
    tasks = counted(cell)
    values = cell.result.values["macro"]["primary"]
    chance = float(values["chance"])
    if cell.seeds:
        accuracy = _over_seeds(cell, [task.name for task in tasks])
        corrected = _corrected(accuracy, chance)
    else:
        accuracy, corrected = estimate(values), estimate(values["chance_corrected"])
    return Result(
        condition=cell.condition,
        task=MACRO,
        num_items=sum(task.measure["n"] for task in tasks),
        accuracy=accuracy,
        chance=chance,
        corrected=corrected,
        verdict=LEAKY if cell.condition.leaky else _verdict(accuracy, chance),
    )


def task_results(cell: Cell, *, plain: bool = False) -> list[Result]:
    """A condition on each of its tasks; `plain` leaves the mark of a leaky mask out."""
    condition = replace(cell.condition, leaky=False) if plain else cell.condition
    return [
        _seeded_result(cell, condition, task) if cell.seeds else task_result(condition, task)
        for task in cell.result.tasks
    ]


def task_result(condition: Condition, task: TaskResult) -> Result:
    """A condition of one run on one task."""
    measure = task.measure
    verdict = _canary([task]) if task.canary else measure["verdict"]
    return Result(
        condition=condition,
        task=task.name,
        num_items=measure["n"],
        accuracy=estimate(measure),
        chance=float(task.values["chance_per_item"]),
        corrected=estimate(measure["chance_corrected"]),
        verdict=LEAKY if condition.leaky else verdict,
        notes=tuple(facts.notes(task)),
    )


def _seeded_result(cell: Cell, condition: Condition, task: TaskResult) -> Result:
    accuracy = _over_seeds(cell, [task.name])
    chance = float(task.values["chance_per_item"])
    own = _canary(cell.tasks(task.name)) if task.canary else _verdict(accuracy, chance)
    return Result(
        condition=condition,
        task=task.name,
        num_items=task.measure["n"],
        accuracy=accuracy,
        chance=chance,
        corrected=_corrected(accuracy, chance),
        verdict=LEAKY if condition.leaky else own,
        notes=tuple(facts.notes(task)),
    )


def _over_seeds(cell: Cell, names: Sequence[str]) -> Estimate:
    """The mean over tasks and seeds; its interval holds questions and seeds."""
    found = [answers(cell, name) for name in names]
    told = replicates.mean_interval(found, **cell.settings)
    return Estimate(**told._asdict(), seeds=tuple(map(float, replicates.by_seed(found))))


def _canary(runs: Sequence[TaskResult]) -> str:
    """Whether one of the runs knows what cannot be known."""
    for task in runs:
        measure, chance = task.measure, float(task.values["chance_per_item"])
        found = measure.get("p_chance")
        if not isinstance(found, float):
            found = statistics.chance_p_value(measure["correct"], {chance: measure["n"]})
        if measure["value"] > chance and found < CANARY_LEVEL:
            return LEAKS
    return QUIET


def _verdict(accuracy: Estimate, chance: float) -> str:
    """By the interval."""
    low, high = accuracy.low, accuracy.high
    if low is not None and low > chance:
        return ABOVE
    return BELOW if high is not None and high < chance else AT


def _corrected(accuracy: Estimate, chance: float) -> Estimate:
    ends = (
        None if end is None else statistics.chance_corrected(end, chance)
        for end in (accuracy.low, accuracy.high)
    )
    value = statistics.chance_corrected(accuracy.value, chance)
    seeds = tuple(statistics.chance_corrected(one, chance) for one in accuracy.seeds)
    low, high = ends
    return Estimate(value=value, low=low, high=high, seeds=seeds)


def estimate(values: Mapping[str, Any]) -> Estimate:
    """An estimate of metrics.json."""
    return Estimate(
        value=float(values["value"]), low=float(values["low"]), high=float(values["high"])
    )
