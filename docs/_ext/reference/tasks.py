"""Every task: where its rows come from, under which licence, and how it asks."""

import sys
from functools import cache

from jaxablate.data.sources import SOURCES, Rows, Source, load_rows
from jaxablate.data.synthetic.instrument import INSTRUMENTS, make_row
from jaxablate.evaluation.config import SAMPLES
from jaxablate.evaluation.task import Item, Task, find_task, render_rows, task_names
from reference import docstrings
from reference.markdown import block, code, table, target

SPLIT, FEW = "validation", 8


def markdown() -> str:
    """A section for each task with one bundled row as it is asked."""
    return "\n".join(_task(name) for name in task_names())


def sources() -> str:
    """A line for each task: data, licence, chance."""
    rows = [_source(name, SOURCES[find_task(name).data]) for name in task_names()]
    return table(("task", "on the hub", "licence", "home", "chance"), rows)


def _source(name: str, entry: Source) -> tuple[str, ...]:
    hub = code(entry.hub) + (f" ({entry.config})" if entry.config else "")
    return (
        f"[{name}](#task-{name})",
        "made by rule" if entry.made else hub,
        entry.licence,
        f"[home]({entry.home})" if entry.home.startswith("https://") else entry.home,
        chance(find_task(name)),
    )


def chance(task: Task) -> str:
    """Accuracy of guessing, from the numbers of choices in the bundled rows."""
    counts = sorted({len(item.continuations) for item in items(task, "standard")})
    return " or ".join(f"1/{count}" for count in counts)


def items(task: Task, variant: str) -> list[Item]:
    """The task's bundled rows, as a variant asks them."""
    return render_rows(task, variant, _rows(task.data), SPLIT)[0]


@cache
def _rows(name: str) -> Rows:
    """A few rows: bundled, or made by rule (all rows of an instrument take seconds)."""
    if not SOURCES[name].made:
        return load_rows(name, SPLIT, folder=SAMPLES, limit=FEW)
    made = tuple(make_row(name, SPLIT, index).to_row() for index in range(FEW))
    return Rows(made, tuple(range(FEW)), FEW, "", "made")


def _task(name: str) -> str:
    task = find_task(name)
    parts = [target(f"task-{name}"), f"### {name}\n", _about(name, task) + "\n"]
    rows = [
        (code(variant), code(entry.primary), docstrings.prose(entry.render))
        for variant, entry in task.variants.items()
    ]
    parts += [table(("variant", "shown accuracy", "asks"), rows), "A row, as it is asked:\n"]
    return "\n".join((*parts, block(_shown(items(task, "standard")[0])), ""))


def _about(name: str, task: Task) -> str:
    """What the task's file says, or the file of the instrument that makes its rows."""
    if SOURCES[task.data].made:
        return docstrings.prose(sys.modules[INSTRUMENTS.get(task.data).make.__module__])
    own = f"jaxablate.evaluation.tasks.{name}"
    return docstrings.prose(sys.modules[own])


def _shown(item: Item) -> str:
    """Context and choices as they are scored; the right one is marked."""
    same = len(set(item.contexts)) == 1
    lines = [item.contexts[0], ""] if same else []
    for index, (context, text) in enumerate(zip(item.contexts, item.continuations, strict=True)):
        mark = "*" if index == item.label else " "
        lines.append(f"{mark} [{'' if same else context}]{text}" if not same else f"{mark}{text}")
    return "\n".join(lines)
