"""Runs to a view: which conditions there are, how they differ, and what a reader must be told."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from jaxablate.core.errors import UserError, unknown
from jaxablate.reports import facts
from jaxablate.reports.appendix import appendix
from jaxablate.reports.compare import Cell, differences, macro, macro_differences, task_result
from jaxablate.reports.finetune import stop_rule
from jaxablate.reports.load import MaskResult, Run
from jaxablate.reports.view import Condition, Difference, Result, View

Row = TypeVar("Row", Result, Difference)


def build_view(
    runs: Sequence[Run], *, title: str, baseline: str | None = None, compare: bool = False
) -> View:
    """The report of finished runs; stopped ones are named and left out of every table.

    Args:
        runs: what `load_run` gives.
        title: heading.
        baseline: mask that the others are compared with; default: each run's first honest one.
        compare: compare everything with the baseline of the first run, not with each run's own.

    Raises:
        UserError: when no run is done, or a comparison has nothing in common.
    """
    done = [run for run in runs if run.results]
    if not done:
        states = ", ".join(f"{run.id} is {run.status}" for run in runs)
        raise UserError(f"no finished run to report: {states}")
    _check_distinct(runs)
    cells, tasks = _cells(done, baseline, compare), _task_names(done)
    return View(
        title=title,
        warnings=(*facts.warnings(runs), *_leaky_baselines(cells)),
        conditions=tuple(cell.condition for cell in cells),
        tasks=tasks,
        results=_by_task(
            tasks, (task_result(c.condition, task) for c in cells for task in c.result.tasks)
        ),
        differences=_by_task(tasks, differences(cells, compare)),
        macro=tuple(macro(cell) for cell in cells),
        macro_differences=tuple(macro_differences(cells, compare)),
        runs=tuple(appendix(run) for run in runs),
        methods=facts.methods(done),
    )


def _check_distinct(runs: Sequence[Run]) -> None:
    places = [run.path.resolve() for run in runs]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise UserError(f"{twice}: is given twice")


def _cells(runs: Sequence[Run], baseline: str | None, compare: bool) -> list[Cell]:
    cells: list[Cell] = []
    for number, run in enumerate(runs):
        first = _baseline_of(run, baseline)
        for result in run.results:
            is_base = result is first and (number == 0 or not compare)
            label = result.name if len(runs) == 1 else f"{run.id}: {result.name}"
            condition = Condition(
                label=label,
                algebra=result.values["mask"],
                run=run.id,
                index=len(cells),
                leaky=result.leaky,
                baseline=is_base,
                stopped=stop_rule(run.manifest),
            )
            cells.append(Cell(condition, run, result))
    return cells


def _baseline_of(run: Run, name: str | None) -> MaskResult:
    if name is None:
        return next((result for result in run.results if not result.leaky), run.results[0])
    found = [r for r in run.results if name in (r.name, r.values["mask"])]
    if not found:
        raise unknown(f"mask of run {run.id}", name, [result.name for result in run.results])
    return found[0]


def _leaky_baselines(cells: Sequence[Cell]) -> list[str]:
    return [
        f"The baseline {cell.condition.label} is leaky, so nothing is compared with it."
        for cell in cells
        if cell.condition.baseline and cell.condition.leaky
    ]


def _task_names(runs: Sequence[Run]) -> tuple[str, ...]:
    names = [task.name for run in runs for result in run.results for task in result.tasks]
    return tuple(dict.fromkeys(names))


def _by_task(tasks: Sequence[str], values: Iterable[Row]) -> tuple[Row, ...]:
    """In the order of the tasks; conditions keep theirs within one."""
    return tuple(sorted(values, key=lambda value: tasks.index(value.task)))
