"""The cross matrix: every trained model under every mask, and the comparisons within it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from jaxablate.reports.compare import Cell, macro, macro_difference, task_differences, task_result
from jaxablate.reports.experiment_view import Column, Comparison
from jaxablate.reports.load import MaskResult, Run
from jaxablate.reports.study import BASE, Criteria, Model, Scored, Study
from jaxablate.reports.view import Condition, Difference, Result

ABOVE = "above chance"


@dataclass(frozen=True)
class Matrix:
    """Cells of models and masks; `criteria` say which of them is the baseline."""

    models: tuple[Model, ...]
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    criteria: Criteria

    def cell(self, model: str, column: Column | None) -> Cell | None:
        """A model under a mask, if it was scored."""
        if column is None:
            return None
        wanted = (model, column.algebra)
        found = (c for c in self.cells if (c.condition.model, c.condition.algebra) == wanted)
        return next(found, None)

    def column(self, name: str) -> Column | None:
        """A mask by its name or its algebra."""
        found = (c for c in self.columns if name in (c.mask, c.algebra))
        return next(found, None)

    @property
    def baseline(self) -> Cell | None:
        """The base under the baseline's mask; a leaky baseline is none."""
        cell = self.cell(BASE, self.column(self.criteria.baseline_mask))
        return None if cell is None or cell.condition.leaky else cell

    @property
    def ablation(self) -> Column | None:
        """The mask that takes skill away: the declared one, else the first honest other one."""
        if self.criteria.mask:
            return self.column(self.criteria.mask)
        plain = self.column(self.criteria.baseline_mask)
        return next((c for c in self.columns if c is not plain and not c.leaky), None)

    @property
    def trained(self) -> tuple[Model, ...]:
        """Models that were finetuned, the judged one first."""
        found = [model for model in self.models if model.run is not None]
        return tuple(sorted(found, key=lambda model: model.name != self.criteria.tuned))

    @property
    def skilled(self) -> bool:
        """The baseline is above chance, so that there is something to lose and to recover."""
        return self.baseline is not None and macro(self.baseline).verdict == ABOVE

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """All tasks in the order in which they come."""
        names = [task.name for cell in self.cells for task in cell.result.tasks]
        return tuple(dict.fromkeys(names))

    def kept(self) -> list[Difference]:
        """Every honest cell against the baseline over all tasks."""
        base = self.baseline
        cells = [cell for cell in self._honest() if base and cell is not base]
        return [_meaningful(macro_difference(cell, base)) for cell in cells if base]

    def results(self) -> list[Result]:
        """Every cell on every task, task by task."""
        return [
            task_result(cell.condition, task)
            for name in self.tasks
            for cell in self.cells
            for task in cell.result.tasks
            if task.name == name
        ]

    def comparisons(self) -> tuple[Comparison, ...]:
        """Tables of paired differences; all tests in them are one family."""
        groups = [(title, intro, pairs) for title, intro, pairs in self._groups() if pairs]
        every = [pair for _, _, pairs in groups for pair in pairs]
        rows = task_differences(every)
        return tuple(
            Comparison(title=title, intro=intro, rows=self._rows(pairs, rows), ratios=not index)
            for index, (title, intro, pairs) in enumerate(groups)
        )

    def _rows(
        self, pairs: Sequence[tuple[Cell, Cell]], every: Sequence[Difference]
    ) -> tuple[Difference, ...]:
        keys = [(cell.condition, base.condition) for cell, base in pairs]
        mine = [row for row in every if (row.condition, row.against) in keys]
        mine.sort(key=lambda row: self.tasks.index(row.task))
        over_all = [macro_difference(cell, base) for cell, base in pairs]
        return tuple(_meaningful(row) for row in (*mine, *over_all))

    def _honest(self) -> list[Cell]:
        return [cell for cell in self.cells if not cell.condition.leaky]

    def _groups(self) -> Iterator[tuple[str, str, list[tuple[Cell, Cell]]]]:
        base, plain = self.baseline, self.criteria.baseline_mask
        against = [(cell, base) for cell in self._honest() if base and cell is not base]
        yield (
            f"Against the base under {plain}",
            "Paired: the same questions to both. Below zero is worse than the untouched model.",
            against,
        )
        yield (
            "What training adds under the same mask",
            f"Each trained model against the base under the same mask ({plain} is above).",
            [pair for pair in self._same_mask() if pair not in against],
        )
        yield (
            "Against the other trained models",
            f"{self.criteria.tuned} against each of them under the same mask. Where the other was "
            "trained under another mask, this is what the mask in training is worth.",
            list(self._controls()),
        )

    def _same_mask(self) -> Iterator[tuple[Cell, Cell]]:
        for column in self.columns:
            base = self.cell(BASE, column)
            for model in self.models:
                cell = self.cell(model.name, column)
                if model.run and cell and base and not column.leaky:
                    yield cell, base

    def _controls(self) -> Iterator[tuple[Cell, Cell]]:
        column = self.ablation
        tuned = self.cell(self.criteria.tuned, column)
        for model in self.trained:
            other = self.cell(model.name, column)
            if tuned and other and other is not tuned and not tuned.condition.leaky:
                yield tuned, other


def build_matrix(study: Study) -> Matrix:
    """The matrix of what a study scored; doses and other tasks are not part of it."""
    found = [(one, result) for one in study.main for result in one.run.results]
    columns = _columns([result for _, result in found], study.criteria)
    cells: dict[tuple[str, str], Cell] = {}
    for one, result in found:
        column = next(c for c in columns if c.algebra == result.values["mask"])
        key = one.model.name, column.algebra
        cells.setdefault(key, _cell(one, result, column, study.criteria))
    ordered = [
        cells[model.name, column.algebra]
        for model in study.models
        for column in columns
        if (model.name, column.algebra) in cells
    ]
    scored_names = {cell.condition.model for cell in ordered}
    models = tuple(
        model for model in study.models if model.name in scored_names or study.compares(model)
    )
    return Matrix(models, columns, tuple(ordered), study.criteria)


def _meaningful(difference: Difference) -> Difference:
    """Without a ratio to a baseline that is itself not above chance: there is no skill to keep."""
    return difference if difference.retention else replace(difference, recovery=None)


def _columns(results: Sequence[MaskResult], criteria: Criteria) -> tuple[Column, ...]:
    """The baseline's mask first, then that of the ablation; leaky ones last."""
    first = {result.values["mask"]: result for result in reversed(results)}
    order = list(dict.fromkeys(result.values["mask"] for result in results))
    leaky = {result.values["mask"] for result in results if result.leaky}

    def rank(algebra: str) -> tuple[bool, bool, bool]:
        names = (algebra, first[algebra].name)
        return algebra in leaky, criteria.baseline_mask not in names, criteria.mask not in names

    return tuple(
        Column(mask=first[key].name, algebra=key, leaky=key in leaky, index=index)
        for index, key in enumerate(sorted(order, key=rank))
    )


def _cell(one: Scored, result: MaskResult, column: Column, criteria: Criteria) -> Cell:
    is_base = one.model.name == BASE and criteria.baseline_mask in (column.mask, column.algebra)
    condition = condition_of(one.model, one.run, result, index=column.index)
    return Cell(replace(condition, baseline=is_base), one.run, result)


def condition_of(model: Model, run: Run, result: MaskResult, *, index: int) -> Condition:
    """A model under a mask, as tables and figures name it."""
    return Condition(
        label=f"{model.name} under {result.name}",
        algebra=result.values["mask"],
        run=run.id,
        index=index,
        leaky=result.leaky,
        baseline=False,
        model=model.name,
        mask=result.name,
        stopped=model.stopped,
    )
