"""Dose and response: accuracy against how many layers or heads are ablated."""

from collections.abc import Sequence

from jaxablate.core.errors import unknown
from jaxablate.reports.charts import Chart, Series, line_chart, value_range
from jaxablate.reports.compare import Cell, macro, macro_difference, task_results
from jaxablate.reports.experiment_view import DoseResponse, DoseRow
from jaxablate.reports.load import MaskResult, Run
from jaxablate.reports.matrix import cell_of
from jaxablate.reports.study import Scored
from jaxablate.reports.view import Result


def dose_responses(scored: Sequence[Scored]) -> tuple[DoseResponse, ...]:
    """One for layers, one for heads: a curve a model, over all tasks and on each of them."""
    doses = [one for one in scored if one.dose and one.run.results]
    axes = dict.fromkeys(one.dose.axis for one in doses if one.dose)
    return tuple(
        _response(axis, [o for o in doses if o.dose and o.dose.axis == axis]) for axis in axes
    )


def _response(axis: str, doses: Sequence[Scored]) -> DoseResponse:
    names = [task.name for one in doses for result in one.run.results for task in result.tasks]
    tasks = tuple(dict.fromkeys(names))
    groups: dict[str, list[Scored]] = {}
    for one in doses:
        groups.setdefault(one.group or one.run.id, []).append(one)
    rows = tuple(
        row for index, ones in enumerate(groups.values()) for row in _rows(ones, index, tasks)
    )
    firsts = [ones[0] for ones in groups.values()]
    charts = [_chart("All tasks", axis, firsts, rows, [row.macro for row in rows])]
    for index, task in enumerate(tasks if len(tasks) > 1 else ()):
        charts.append(_chart(task, axis, firsts, rows, [row.tasks[index] for row in rows]))
    return DoseResponse(axis=axis, charts=tuple(c for c in charts if c), tasks=tasks, rows=rows)


def _rows(ones: Sequence[Scored], index: int, tasks: Sequence[str]) -> list[DoseRow]:
    """The counts of one model; `ones` are its seeds."""
    one = ones[0]
    assert one.dose is not None
    pairs = sorted(zip(one.dose.counts, one.dose.masks, strict=True))
    cells = [_cell(ones, mask, index) for _, mask in pairs]
    first = cells[0] if cells and not cells[0].condition.leaky else None
    return [
        _row(one, count, cell, first, tasks) for (count, _), cell in zip(pairs, cells, strict=True)
    ]


def _cell(ones: Sequence[Scored], mask: str, index: int) -> Cell:
    return cell_of([(one, _result(one.run, mask)) for one in ones], index=index)


def _result(run: Run, mask: str) -> MaskResult:
    found = [result for result in run.results if mask in (result.name, result.values["mask"])]
    if not found:
        raise unknown(f"mask of run {run.id}", mask, [result.name for result in run.results])
    return found[0]


def _row(one: Scored, count: int, cell: Cell, first: Cell | None, tasks: Sequence[str]) -> DoseRow:
    results = {result.task: result for result in task_results(cell)}
    compared = first is not None and cell is not first and not cell.condition.leaky
    return DoseRow(
        scored=one,
        count=count,
        algebra=cell.condition.algebra,
        macro=macro(cell),
        tasks=tuple(results.get(task) for task in tasks),
        difference=macro_difference(cell, first) if compared and first else None,
    )


def _chart(
    title: str,
    axis: str,
    doses: Sequence[Scored],
    rows: Sequence[DoseRow],
    results: Sequence[Result | None],
) -> Chart | None:
    series = []
    for index, one in enumerate(doses):
        mine = [
            (row.count, result)
            for row, result in zip(rows, results, strict=True)
            if row.scored is one and result is not None
        ]
        series.append(
            Series(
                label=f"{one.model.name} (STOPPED)" if one.model.stopped else one.model.name,
                points=tuple((count, result.accuracy.value) for count, result in mine),
                intervals=tuple(
                    (count, result.accuracy.low or 0.0, result.accuracy.high or 0.0)
                    for count, result in mine
                ),
                colour=index,
            )
        )
    chance = next((result.chance for result in results if result is not None), None)
    reference = None if chance is None else ("chance", chance)
    scale = value_range(series, [chance] if chance is not None else [])
    return line_chart(
        title,
        series,
        x_label=f"ablated {axis}",
        y_label="accuracy",
        y_range=(max(0.0, scale[0]), min(1.0, scale[1])),
        reference=reference,
    )
