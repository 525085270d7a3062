"""Sweeps: one setting, several values; the held-out loss of each, and its scores if it has some."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jaxablate.reports.charts import Chart, Series, line_chart, value_range
from jaxablate.reports.compare import macro, macro_difference
from jaxablate.reports.experiment_view import Column, SweepRow, SweepTable
from jaxablate.reports.finetune import Evaluation, FinetuneRun
from jaxablate.reports.learning import finished, steering, steps
from jaxablate.reports.load import MaskResult
from jaxablate.reports.matrix import Matrix, cell_of, columns_of, meaningful
from jaxablate.reports.pairs import Cell, counted
from jaxablate.reports.study import Model, Scored, Study
from jaxablate.reports.view import Difference, Result

Scores = tuple[tuple[Result, Difference | None] | None, ...]


def sweep_tables(study: Study, matrix: Matrix) -> tuple[SweepTable, ...]:
    """One table a sweep: held-out loss under the training mask, and scores, for each value."""
    swept = [(model, run) for model, run in finished(study.models) if model.sweep]
    keys = dict.fromkeys((m.sweep.group, m.sweep.setting) for m, _ in swept if m.sweep)
    return tuple(_sweep(*key, _members(swept, key), study, matrix) for key in keys)


def _members(
    swept: Sequence[tuple[Model, FinetuneRun]], key: tuple[str, str]
) -> list[tuple[Model, FinetuneRun]]:
    found = [
        (model, run)
        for model, run in swept
        if model.sweep and (model.sweep.group, model.sweep.setting) == key
    ]
    return sorted(found, key=lambda member: _order(_value(member[0])))


def _sweep(
    group: str,
    setting: str,
    members: list[tuple[Model, FinetuneRun]],
    study: Study,
    matrix: Matrix,
) -> SweepTable:
    names = {model.name for model, _ in members}
    scored = [one for one in study.swept if one.model.name in names]
    found = [(one, result) for one in scored for result in one.run.results]
    columns = columns_of([result for _, result in found], study.criteria)
    rows = tuple(
        replace(_row(model, run), scores=tuple(_scores(model, found, columns, matrix)))
        for model, run in members
    )
    values = [_value(model) for model, _ in members]
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    drawn = numbers if len(numbers) == len(rows) > 1 else []
    return SweepTable(
        group=group,
        setting=setting,
        mask=", ".join(dict.fromkeys(steering(run) for _, run in members)),
        charts=tuple(_charts(setting, drawn, rows, columns)) if drawn else (),
        rows=rows,
        columns=columns,
    )


def _row(model: Model, run: FinetuneRun) -> SweepRow:
    mask = steering(run)
    measured = run.measured(mask)
    value = _value(model)
    return SweepRow(
        model=model,
        value=value if isinstance(value, str) else f"{value:g}",
        steps=steps(run),
        reason=run.summary["stop_reason"],
        last=measured[-1] if measured else None,
        best=run.best(mask),
    )


def _scores(
    model: Model,
    found: Sequence[tuple[Scored, MaskResult]],
    columns: Sequence[Column],
    matrix: Matrix,
) -> Iterator[tuple[Result, Difference | None] | None]:
    """Macro accuracy under each mask, with what it is of the baseline's."""
    for column in columns:
        mine = [
            (one, result)
            for one, result in found
            if one.model.name == model.name and result.values["mask"] == column.algebra
        ]
        if not mine:
            yield None
            continue
        cell, base = cell_of(mine, index=column.index), matrix.baseline
        compared = base is not None and not column.leaky and _share_tasks(cell, base)
        yield macro(cell), meaningful(macro_difference(cell, base)) if compared and base else None


def _share_tasks(cell: Cell, base: Cell) -> bool:
    own = {task.name for task in counted(cell)}
    return any(task.name in own for task in counted(base))


def _charts(
    setting: str, values: Sequence[float], rows: Sequence[SweepRow], columns: Sequence[Column]
) -> Iterator[Chart]:
    lowest, last = [row.best for row in rows], [row.last for row in rows]
    series = [
        _losses("lowest held-out loss", values, lowest),
        replace(_losses("last held-out loss", values, last), colour=1, dashed=True),
    ]
    drawn = [(f"Held-out loss by {setting}", "nats a token", series)]
    kept = [_recovery(index, column, values, rows) for index, column in enumerate(columns)]
    if kept:
        drawn.append((f"Recovery by {setting}", "recovery", kept))
    for title, what, lines in drawn:
        reference = ("baseline", 1.0) if what == "recovery" else None
        chart = line_chart(
            title,
            lines,
            x_label=setting,
            y_label=what,
            x_values=values,
            y_range=value_range(lines, [1.0]) if reference else None,
            reference=reference,
            log_x=min(values) > 0,
        )
        if chart:
            yield chart


def _recovery(
    index: int, column: Column, values: Sequence[float], rows: Sequence[SweepRow]
) -> Series:
    """Accuracy under one mask as a share of the baseline's."""
    scores = [row.scores[index] for row in rows]
    kept = [one[1].recovery if one and one[1] else None for one in scores]
    pairs = list(zip(values, kept, strict=True))
    return Series(
        label=f"accuracy under {column.mask}, share of the baseline's",
        points=tuple((value, one.value if one else None) for value, one in pairs),
        intervals=tuple(
            (value, one.low, one.high)
            for value, one in pairs
            if one and one.low is not None and one.high is not None
        ),
        colour=column.index,
    )


def _losses(label: str, values: Sequence[float], found: Sequence[Evaluation | None]) -> Series:
    pairs = list(zip(values, found, strict=True))
    return Series(
        label=label,
        points=tuple((value, one.loss if one else None) for value, one in pairs),
        intervals=tuple(
            (value, min(one.seeds), max(one.seeds)) for value, one in pairs if one and one.seeds
        ),
    )


def _value(model: Model) -> float | int | str:
    return model.sweep.value if model.sweep else ""


def _order(value: float | int | str) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")
