"""Conditions against their baseline: paired differences, ratios, and which of them are real."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.reports import facts
from jaxablate.reports.load import MaskResult, Run, TaskResult
from jaxablate.reports.view import Condition, Difference, Estimate, Result
from jaxablate.runs import statistics

LEVEL = 0.05
MACRO = "all tasks"
LEAKY = "leaky: not a measure of skill"


@dataclass(frozen=True)
class Cell:
    """A condition with the run and the results it stands for."""

    condition: Condition
    run: Run
    result: MaskResult


@dataclass(frozen=True)
class _Pair:
    """A condition and its baseline on one task."""

    cell: Cell
    task: str
    table: statistics.PairTable
    chance: float
    skilled: bool


def _pairs(cell: Cell, base: Cell) -> list[_Pair]:
    own = {task.name: task for task in cell.result.tasks}
    return [
        _pair(cell, base, own[task.name], task) for task in base.result.tasks if task.name in own
    ]


def _pair(cell: Cell, base_cell: Cell, own: TaskResult, base: TaskResult) -> _Pair:
    same_data = _data_digest(cell.run, own.name) == _data_digest(base_cell.run, base.name)
    if not same_data or own.correct.keys() != base.correct.keys():
        raise UserError(
            f"{base.name}: {cell.condition.label} and its baseline did not answer the same "
            f"{len(base.correct)} items; evaluate both with the same data, split and limit"
        )
    names = list(base.correct)
    table = statistics.pair_table(
        [base.correct[name] for name in names], [own.correct[name] for name in names]
    )
    return _Pair(
        cell=cell,
        task=base.name,
        table=table,
        chance=float(base.values["chance_per_item"]),
        skilled=base.measure["verdict"] == "above chance",
    )


def _data_digest(run: Run, task: str) -> Any:
    data = run.manifest.get("data")
    entry = data.get(task) if isinstance(data, dict) else None
    return entry.get("digest") if isinstance(entry, dict) else None


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


def task_differences(pairs: Sequence[tuple[Cell, Cell]]) -> list[Difference]:
    """First cell of each pair against the second on each task; one family for Holm's correction."""
    found = []
    for cell, base in pairs:
        settings = _bootstrap(base.run)
        for pair in _pairs(cell, base):
            leaky = cell.condition.leaky
            p_value = None if leaky else statistics.mcnemar(pair.table)
            difference = Difference(
                condition=cell.condition,
                task=pair.task,
                num_items=pair.table.total,
                value=_from(statistics.paired_difference(pair.table, **settings)),
                p_value=p_value,
                adjusted=None,
                verdict=LEAKY,
                recovery=_maybe(leaky, statistics.recovery_ratio(pair.table, **settings)),
                retention=_maybe(
                    leaky or not pair.skilled,
                    statistics.retention(pair.table, pair.chance, **settings),
                ),
                against=base.condition,
            )
            found.append(difference)
    return _adjust(found)


def _adjust(differences: Sequence[Difference]) -> list[Difference]:
    """P values for the whole family of honest comparisons in the report, by Holm's method."""
    tested = [d.p_value for d in differences if d.p_value is not None]
    adjusted = iter(statistics.holm(tested))
    found = []
    for difference in differences:
        if difference.p_value is None:
            found.append(difference)
            continue
        value = next(adjusted)
        distinct = "distinguishable" if value < LEVEL else "not distinguishable"
        found.append(replace(difference, adjusted=value, verdict=f"{distinct} from zero"))
    return found


def macro_differences(cells: Sequence[Cell], compare: bool) -> list[Difference]:
    """Each condition against its baseline over all tasks they share."""
    return [macro_difference(cell, base) for cell, base in _compared(cells, compare)]


def macro_difference(cell: Cell, base: Cell) -> Difference:
    """A condition against another over all tasks they share."""
    pairs = _pairs(cell, base)
    if not pairs:
        raise UserError(f"{cell.condition.label} has no task in common with its baseline")
    tables = [pair.table for pair in pairs]
    chance = sum(pair.chance for pair in pairs) / len(pairs)
    over_tasks = partial(statistics.macro_paired, tables, **_bootstrap(base.run))
    value = over_tasks(lambda first, second: second - first)
    zero = "includes" if value.low <= 0 <= value.high else "excludes"
    leaky, skilled = cell.condition.leaky, macro(base).verdict == "above chance"
    return Difference(
        condition=cell.condition,
        task=MACRO,
        num_items=sum(table.total for table in tables),
        value=_from(value),
        p_value=None,
        adjusted=None,
        verdict=LEAKY if leaky else f"interval {zero} zero",
        recovery=_maybe(leaky, over_tasks(_ratio_above(0.0))),
        retention=_maybe(leaky or not skilled, over_tasks(_ratio_above(chance))),
        against=base.condition,
    )


def _ratio_above(floor: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Second over first, both above a floor; cut at 1000 where the first is hardly above it."""

    def ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        below = np.maximum(first - floor, np.finfo(float).tiny)
        return np.clip((second - floor) / below, -1e3, 1e3)

    return ratio


def _bootstrap(run: Run) -> dict[str, int]:
    """Resamples and seed that the run's own intervals were made with."""
    return {
        "samples": int(run.config.get("bootstrap_samples", 10_000)),
        "seed": int(run.config.get("seed", 0)),
    }


def _from(found: statistics.Interval) -> Estimate:
    return Estimate(value=found.value, low=found.low, high=found.high)


def _maybe(hidden: bool, found: statistics.Interval | None) -> Estimate | None:
    return None if hidden or found is None else _from(found)


def macro(cell: Cell) -> Result:
    """A condition over all tasks."""
    values = cell.result.values["macro"]["primary"]
    chance = float(values["chance"])
    verdict = "not distinguishable from chance"
    if values["low"] > chance:
        verdict = "above chance"
    elif values["high"] < chance:
        verdict = "below chance"
    return Result(
        condition=cell.condition,
        task=MACRO,
        num_items=sum(task.measure["n"] for task in cell.result.tasks),
        accuracy=estimate(values),
        chance=chance,
        corrected=estimate(values["chance_corrected"]),
        verdict=LEAKY if cell.condition.leaky else verdict,
    )


def task_result(condition: Condition, task: TaskResult) -> Result:
    """A condition on one task."""
    measure = task.measure
    return Result(
        condition=condition,
        task=task.name,
        num_items=measure["n"],
        accuracy=estimate(measure),
        chance=float(task.values["chance_per_item"]),
        corrected=estimate(measure["chance_corrected"]),
        verdict=LEAKY if condition.leaky else measure["verdict"],
        notes=tuple(facts.notes(task)),
    )


def estimate(values: Mapping[str, Any]) -> Estimate:
    """An estimate of metrics.json."""
    return Estimate(
        value=float(values["value"]), low=float(values["low"]), high=float(values["high"])
    )
