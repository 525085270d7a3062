"""Scores on tasks that are not part of the matrix, such as an evaluation of instruments alone."""

from collections.abc import Iterator

from jaxablate.reports.compare import task_result
from jaxablate.reports.matrix import condition_of
from jaxablate.reports.study import Study
from jaxablate.reports.view import Result


def further_results(study: Study) -> tuple[Result, ...]:
    """Every further evaluation task by task, the masks of a task together."""
    return tuple(_results(study))


def _results(study: Study) -> Iterator[Result]:
    for one in study.further:
        for name in one.run.tasks:
            for index, result in enumerate(one.run.results):
                condition = condition_of(one.model, one.run, result, index=index)
                tasks = [task for task in result.tasks if task.name == name]
                yield from (task_result(condition, task) for task in tasks)
