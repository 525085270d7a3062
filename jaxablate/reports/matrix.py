"""The cross matrix: every trained model under every mask, and the comparisons within it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from jaxablate.reports.compare import (
    Cell,
    macro,
    macro_difference,
    task_differences,
    task_results,
)
from jaxablate.reports.experiment_view import Column, Comparison
from jaxablate.reports.load import MaskResult, Run
from jaxablate.reports.pairs import Seeded, counted
from jaxablate.reports.study import BASE, Criteria, Model, Scored, Study
from jaxablate.reports.view import Condition, Difference, Result

ABOVE = "above chance"


@dataclass(frozen=True)
class Matrix:
    """Cells of models and masks; `criteria` say which of them is the baseline.

    `others` are cells on instruments alone, where the study has benchmarks.
    """

    models: tuple[Model, ...]
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    criteria: Criteria
    others: tuple[Cell, ...] = ()

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
        names = [task.name for cell in self.cells for task in counted(cell)]
        return tuple(dict.fromkeys(names))

    @cached_property
    def instruments(self) -> tuple[str, ...]:
        """Tasks that are in no mean, in the order in which they come."""
        every = (*self.cells, *self.others)
        names = [task.name for cell in every for task in cell.result.tasks]
        return tuple(name for name in dict.fromkeys(names) if name not in self.tasks)

    def kept(self) -> list[Difference]:
        """Every honest cell against the baseline over all tasks."""
        base = self.baseline
        cells = [cell for cell in self._honest() if base and cell is not base]
        return [meaningful(macro_difference(cell, base)) for cell in cells if base]

    def results(self) -> list[Result]:
        """Every cell on every task, task by task."""
        return self._results(self.cells, self.tasks)

    def apart(self) -> list[Result]:
        """Every cell on every instrument, task by task."""
        return self._results((*self.cells, *self.others), self.instruments)

    def _results(self, cells: Sequence[Cell], names: Sequence[str]) -> list[Result]:
        found = [result for cell in cells for result in task_results(cell)]
        return [result for name in names for result in found if result.task == name]

    @cached_property
    def apart_kept(self) -> tuple[Difference, ...]:
        """Every honest cell against the baseline on every instrument; no tests, only intervals."""
        base = self.baseline
        cells = [c for c in (*self.cells, *self.others) if not c.condition.leaky]
        pairs = [(cell, base) for cell in cells if base and cell is not base]
        return tuple(map(meaningful, task_differences(pairs, self.instruments)))

    def comparisons(self) -> tuple[Comparison, ...]:
        """Tables of paired differences; all tests in them are one family."""
        groups = [(title, intro, pairs) for title, intro, pairs in self._groups() if pairs]
        every = [pair for _, _, pairs in groups for pair in pairs]
        rows = task_differences(every, self.tasks)
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
        return tuple(meaningful(row) for row in (*mine, *over_all))

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
    columns = columns_of([result for _, result in found], study.criteria)
    ordered = [
        _cell(mine, column, study.criteria)
        for model in study.models
        for column in columns
        if (mine := [pair for pair in found if _is_of(pair, model, column)])
    ]
    benchmarks = any(_has_benchmark(cell) for cell in ordered)
    cells = [cell for cell in ordered if _has_benchmark(cell) or not benchmarks]
    others = [cell for cell in ordered if benchmarks and not _has_benchmark(cell)]
    names, apart = ({cell.condition.model for cell in part} for part in (cells, others))
    elsewhere = apart | {one.model.name for one in study.further}
    models = tuple(
        model
        for model in study.models
        if model.name in names or (study.compares(model) and model.name not in elsewhere)
    )
    return Matrix(models, columns, tuple(cells), study.criteria, tuple(others))


def _is_of(pair: tuple[Scored, MaskResult], model: Model, column: Column) -> bool:
    one, result = pair
    return (one.model.name, result.values["mask"]) == (model.name, column.algebra)


def _has_benchmark(cell: Cell) -> bool:
    return any(not task.instrument for task in cell.result.tasks)


def meaningful(difference: Difference) -> Difference:
    """Without a ratio to a baseline that is itself not above chance: there is no skill to keep."""
    return difference if difference.retention else replace(difference, recovery=None)


def columns_of(results: Sequence[MaskResult], criteria: Criteria) -> tuple[Column, ...]:
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


def _cell(found: Sequence[tuple[Scored, MaskResult]], column: Column, criteria: Criteria) -> Cell:
    """A model under a mask; of several evaluations of one seed the first."""
    model = found[0][0].model
    is_base = model.name == BASE and criteria.baseline_mask in (column.mask, column.algebra)
    cell = cell_of(found, index=column.index)
    return replace(cell, condition=replace(cell.condition, baseline=is_base))


def cell_of(found: Sequence[tuple[Scored, MaskResult]], *, index: int) -> Cell:
    """One condition of evaluations that differ in the seed of their model at most."""
    one, result = found[0]
    condition = condition_of(one.model, one.run, result, index=index)
    seeds: dict[int, Seeded] = {}
    for scored, own in found:
        if scored.seed is not None:
            seeds.setdefault(scored.seed, Seeded(scored.seed, scored.run, own))
    several = tuple(seeds.values()) if len(seeds) > 1 else ()
    return Cell(condition, one.run, result, several)


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
