"""Scores on tasks that are not part of the matrix, such as an evaluation of instruments alone."""

from collections.abc import Iterator

from jaxablate.reports.compare import task_results
from jaxablate.reports.matrix import cell_of
from jaxablate.reports.study import Scored, Study
from jaxablate.reports.view import Result


def further_results(study: Study) -> tuple[Result, ...]:
    """Every further evaluation task by task, the masks of a task together, and its seeds in one."""
    groups: dict[tuple[str, ...], list[Scored]] = {}
    for one in study.further:
        alone = one.run.id if one.seed is None else one.group
        groups.setdefault((one.model.name, alone, *one.run.tasks), []).append(one)
    return tuple(result for ones in groups.values() for result in _results(ones))


def _results(ones: list[Scored]) -> Iterator[Result]:
    first = ones[0].run
    cells = [
        cell_of([(one, one.run.results[index]) for one in ones], index=index)
        for index in range(len(first.results))
    ]
    for name in first.tasks:
        yield from (r for cell in cells for r in task_results(cell) if r.task == name)
