"""Two conditions on the questions that both answered: differences and ratios with intervals.

A condition of one run is resampled as counts of right and wrong. One of several seeds is resampled
over questions and seeds, see `runs.replicates`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.reports.load import MaskResult, Run, TaskResult
from jaxablate.reports.view import Condition, Estimate
from jaxablate.runs import replicates, statistics

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Seeded:
    """What the run of one seed found."""

    seed: int
    run: Run
    result: MaskResult


@dataclass(frozen=True)
class Cell:
    """A condition with the runs and the results it stands for.

    `run` and `result` are those of the only run, or of the first seed; `seeds` has all seeds where
    there are several, and is empty otherwise.
    """

    condition: Condition
    run: Run
    result: MaskResult
    seeds: tuple[Seeded, ...] = ()

    @property
    def every(self) -> tuple[tuple[Run, MaskResult], ...]:
        """All runs with their results."""
        return tuple((one.run, one.result) for one in self.seeds) or ((self.run, self.result),)

    def tasks(self, name: str) -> list[TaskResult]:
        """One task, seed by seed."""
        return [task for _, result in self.every for task in result.tasks if task.name == name]

    @cached_property
    def settings(self) -> dict[str, int]:
        """Resamples and seed that the run's own intervals were made with."""
        return {
            "samples": int(self.run.config.get("bootstrap_samples", 10_000)),
            "seed": int(self.run.config.get("seed", 0)),
        }


def counted(cell: Cell) -> list[TaskResult]:
    """The tasks that a mean over tasks is of: the benchmarks, else the instruments.

    A canary, to which there is no answer, is never among them unless it stands alone.
    """
    tasks = cell.result.tasks
    plain = [task for task in tasks if not task.instrument]
    return plain or [task for task in tasks if not task.canary] or list(tasks)


def answers(cell: Cell, task: str, order: Sequence[str] | None = None) -> np.ndarray:
    """Right or wrong by seed and question, bool [seeds, questions].

    Raises:
        UserError: when two seeds did not answer the same questions.
    """
    found = cell.tasks(task)
    order = list(found[0].correct) if order is None else order
    for each in found:
        if each.correct.keys() != set(order):
            raise UserError(
                f"{task}: the seeds of {cell.condition.label} did not answer the same "
                f"{len(order)} items; evaluate all with the same data, split and limit"
            )
    return np.array([[each.correct[name] for name in order] for each in found], bool)


@dataclass(frozen=True)
class Pair:
    """A condition and its baseline on one task.

    `first` (the baseline) and `second` are bool [seeds, questions]; row k of both has the same seed
    where `matched`.
    """

    task: str
    chance: float
    first: np.ndarray
    second: np.ndarray
    matched: bool

    @property
    def single(self) -> bool:
        """Both are one run."""
        return len(self.first) == len(self.second) == 1

    @cached_property
    def table(self) -> statistics.PairTable:
        """Counts of right and wrong of two single runs."""
        return statistics.pair_table(self.first[0].tolist(), self.second[0].tolist())

    @property
    def total(self) -> int:
        """Questions."""
        return self.first.shape[1]


def pairs(cell: Cell, base: Cell, tasks: Sequence[TaskResult]) -> list[Pair]:
    """The condition against the baseline on those of the baseline's tasks that both have."""
    own = {task.name: task for task in cell.result.tasks}
    return [_pair(cell, base, own[task.name], task) for task in tasks if task.name in own]


def _pair(cell: Cell, base_cell: Cell, own: TaskResult, base: TaskResult) -> Pair:
    same_data = _data_digest(cell.run, own.name) == _data_digest(base_cell.run, base.name)
    if not same_data or own.correct.keys() != base.correct.keys():
        raise UserError(
            f"{base.name}: {cell.condition.label} and its baseline did not answer the same "
            f"{len(base.correct)} items; evaluate both with the same data, split and limit"
        )
    names = list(base.correct)
    return Pair(
        task=base.name,
        chance=float(base.values["chance_per_item"]),
        first=answers(base_cell, base.name, names),
        second=answers(cell, base.name, names),
        matched=_seeds(cell) == _seeds(base_cell),
    )


def _seeds(cell: Cell) -> list[int]:
    return [one.seed for one in cell.seeds]


def _data_digest(run: Run, task: str) -> Any:
    data = run.manifest.get("data")
    entry = data.get(task) if isinstance(data, dict) else None
    return entry.get("digest") if isinstance(entry, dict) else None


def over_tasks(pairs: Sequence[Pair], function: Function, **settings: int) -> Estimate:
    """A function of both macro accuracies over some tasks, with its interval."""
    if all(pair.single for pair in pairs):
        tables = [pair.table for pair in pairs]
        return from_interval(statistics.macro_paired(tables, function, **settings))
    first, second = ([pair.first for pair in pairs], [pair.second for pair in pairs])
    matched = all(pair.matched for pair in pairs)
    found = replicates.paired(first, second, function, matched=matched, **settings)
    return Estimate(**found._asdict(), seeds=_by_seed(first, second, function, matched))


def _by_seed(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], function: Function, matched: bool
) -> tuple[float, ...]:
    """The function seed by seed; empty where seeds of both sides do not belong together."""
    one, other = replicates.by_seed(first), replicates.by_seed(second)
    if not matched and min(len(one), len(other)) > 1:
        return ()
    return tuple(map(float, function(*np.broadcast_arrays(one, other))))


def p_value(pair: Pair, **settings: int) -> float:
    """Of the difference on one task: exact for two runs, else from the draws of its interval."""
    if pair.single:
        return statistics.mcnemar(pair.table)
    first, second = replicates.draw([pair.first], [pair.second], matched=pair.matched, **settings)
    return replicates.p_value(second - first)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Second minus first."""
    return second - first


def ratio_above(floor: float) -> Function:
    """Second over first, both above a floor; cut at 1000 where the first is hardly above it."""
    return partial(_ratio_above, floor)


def _ratio_above(floor: float, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    below = np.maximum(first - floor, np.finfo(float).tiny)
    return np.clip((second - floor) / below, -1e3, 1e3)


def from_interval(found: statistics.Interval) -> Estimate:
    """As a report takes it."""
    return Estimate(value=found.value, low=found.low, high=found.high)
