"""What a model card says of scores: tables, and sentences on what a model can and cannot do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxablate.reports import facts
from jaxablate.reports.compare import ABOVE, AT, BELOW, task_result
from jaxablate.reports.lineage import Evaluated, Lineage
from jaxablate.reports.load import MaskResult
from jaxablate.reports.view import Condition, Result


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """The scores of one evaluation, task by task."""

    title: str
    rows: tuple[Result, ...]


def score_tables(lineage: Lineage) -> tuple[ScoreTable, ...]:
    """One table for each evaluation of the model."""
    return tuple(ScoreTable(title=one.title, rows=tuple(_rows(one))) for one in lineage.evaluations)


def _rows(evaluated: Evaluated) -> Iterator[Result]:
    for name in evaluated.run.tasks:
        for result in evaluated.run.results:
            for task in result.tasks:
                if task.name == name:
                    yield task_result(_condition(evaluated, result), task)


def _condition(evaluated: Evaluated, result: MaskResult) -> Condition:
    return Condition(
        label=result.name,
        algebra=result.values["mask"],
        run=evaluated.run.id,
        index=0,
        leaky=result.leaky,
        baseline=False,
        mask=result.name,
    )


def abilities(tables: Sequence[ScoreTable]) -> tuple[str, ...]:
    """A sentence for each mask and verdict, the masks in the order of the tables."""
    rows = [row for table in tables for row in table.rows]
    masks = dict.fromkeys(row.condition.mask for row in rows)
    return tuple(
        sentence
        for mask in masks
        for sentence in _of_mask(mask, [row for row in rows if row.condition.mask == mask])
    )


def _of_mask(mask: str, rows: Sequence[Result]) -> Iterator[str]:
    if any(row.condition.leaky for row in rows):
        yield f"Under {mask} an answer can see itself; its scores do not measure skill."
        return
    for verdict in (ABOVE, AT, BELOW):
        found = ", ".join(_named(row) for row in rows if row.verdict == verdict)
        if found:
            yield f"Under {mask}, {verdict} on: {found}."
    for row in rows:
        if row.verdict not in (ABOVE, AT, BELOW):
            yield f"Under {mask}, {row.task} (whose answers nobody can know): {row.verdict}."


def _named(row: Result) -> str:
    return f"{row.task} {row.accuracy.value:.3f} (chance {row.chance:.3f})"


def score_notes(lineage: Lineage) -> tuple[str, ...]:
    """What a reader of the tables must know."""
    runs = [one.run for one in lineage.evaluations]
    lines = [f"{task}: {part}" for run in runs for task, part in facts.small(run)]
    if any(run.config.get("variant") == "compat" for run in runs):
        lines.append("Tasks are asked in the wording of an earlier study (compat).")
    return tuple(dict.fromkeys(lines))
