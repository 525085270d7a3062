"""A task turns a benchmark's row into texts to be scored; its variants differ in the wording.

`standard` asks what lm-evaluation-harness asks, character for character. `compat` asks what the
first reference system of this study asked: other templates, whitespace collapsed, no special
tokens, and the mean over tokens as its measure.

To add a task: a file in `evaluation/tasks/` that registers a `Task`, and its entry in
`data.sources.SOURCES`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.core.registry import Registry
from jaxablate.data.sources import Row, Rows

VARIANTS = ("standard", "compat")


@dataclass(frozen=True)
class Rendered:
    """Texts of one row. Choice c is scored as `continuations[c]` after `contexts[c]`.

    `answers` are what the length normalisations measure: continuations without the delimiter.
    `parts` are the characters of every context at which its part 2, 3, ... begins.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    answers: tuple[str, ...]
    label: int
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Item(Rendered):
    """A rendered row with its name, `<split>/<row>`."""

    id: str = field(kw_only=True)

    @property
    def chance(self) -> float:
        """Accuracy of guessing on this item."""
        return 1 / len(self.continuations)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One wording of a task.

    `render` gives None for a row that the variant leaves out. `primary` names the accuracy that
    the summary shows: acc, acc_norm, acc_bytes or acc_per_token.
    """

    render: Callable[[Row], Rendered | None]
    primary: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark and its wordings; `version` goes up when any rendering changes.

    `instrument`: made by rule to tell masks apart, and in no mean over benchmarks. `canary`: an
    instrument without an answer that could be known; a score above chance is a leak.
    """

    data: str
    version: int
    variants: Mapping[str, Variant]
    instrument: bool = False
    canary: bool = False

    def variant(self, name: str) -> Variant:
        """The wording called `name`; raises `UserError` that lists them."""
        if name not in self.variants:
            raise unknown("variant", name, self.variants)
        return self.variants[name]


TASKS: Registry[Task] = Registry("task")


def find_task(name: str) -> Task:
    """The task called `name`; raises `UserError` that lists the names."""
    _import_all()
    return TASKS.get(name)


def task_names() -> tuple[str, ...]:
    """All tasks, in alphabetical order."""
    _import_all()
    return tuple(sorted(TASKS.names()))


def _import_all() -> None:
    package = importlib.import_module("jaxablate.evaluation.tasks")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)


def render_rows(task: Task, variant: str, rows: Rows, split: str) -> tuple[list[Item], int]:
    """Items of the rows, and how many rows the variant left out."""
    render = task.variant(variant).render
    items, skipped = [], 0
    for index, row in zip(rows.indices, rows.rows, strict=True):
        name = f"{split}/{index}"
        try:
            rendered = render(row)
        except UserError as error:
            raise UserError(f"{task.data}, {name}: {error}") from None
        if rendered is None:
            skipped += 1
            continue
        _check(rendered, f"{task.data}, {name}")
        items.append(Item(**vars(rendered), id=name))
    return items, skipped


def _check(rendered: Rendered, where: str) -> None:
    count = len(rendered.continuations)
    assert count == len(rendered.contexts) == len(rendered.answers)
    if not 0 <= rendered.label < count:
        raise UserError(
            f"{where}: the right answer must be in 0..{count - 1}, got {rendered.label}"
        )


def integer_label(value: Any) -> int:
    """A label given as integer or text.

    >>> integer_label("3")
    3
    """
    try:
        return int(value)
    except ValueError:
        raise UserError(f"the label must be an integer, got {value!r}") from None


def collapse(text: str) -> str:
    """Whitespace of any kind and length becomes one space; none at the ends.

    >>> collapse("  two   words ")
    'two words'
    """
    return " ".join(text.split())


def same_context(context: str, answers: list[str], label: int) -> Rendered:
    """One context, a choice after each a space: the usual form."""
    continuations = tuple(" " + answer for answer in answers)
    return Rendered((context,) * len(answers), continuations, tuple(answers), label)
