"""Instruments: small questions made by rule, on which masks differ sharply, and text to teach them.

`rows` gives the questions of an instrument as rows of a benchmark, `documents` text for
pretraining in the very strings that the questions use. Nothing is stored: a name, a split and an
index give the row.

To add one: a file here that registers an `Instrument` (and a lesson, if models are to learn it),
imported below.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.data.document import Document
from jaxablate.data.synthetic import clubs, compress, facts, null_mcq, parts, recall, recall_mcq
from jaxablate.data.synthetic.instrument import (
    INSTRUMENTS,
    LESSONS,
    SPLITS,
    Made,
    make_lesson,
    make_row,
)

# Each registers itself when it is imported.
FILES = (clubs, compress, facts, null_mcq, parts, recall, recall_mcq)


def names() -> tuple[str, ...]:
    """The kinds of documents.

    >>> names()
    ('clubs', 'compress', 'facts', 'parts', 'recall')
    """
    return tuple(sorted(LESSONS.names()))


def instrument_names() -> tuple[str, ...]:
    """The instruments that have rows."""
    return INSTRUMENTS.names()


def documents(name: str, *, count: int, seed: int) -> Iterator[Document]:
    """`count` texts of a kind; none has the content of a validation row, whatever the seed.

    Args:
        name: one of `names()`.
        count: how many.
        seed: another seed gives other texts. Text i is the same for every count.

    Raises:
        UserError: for an unknown name, a negative count or seed.
    """
    LESSONS.get(name)
    if count < 0 or seed < 0:
        raise UserError(f"documents need count and seed >= 0, got {count} and {seed}")
    return _documents(name, count, seed)


def _documents(name: str, count: int, seed: int) -> Iterator[Document]:
    for index in range(count):
        lesson = make_lesson(name, seed, index)
        yield Document(f"{name}-{seed}:{index}", lesson.text, lesson.read_only)


def rows(name: str, split: str) -> list[dict[str, Any]]:
    """All rows of a split: prompt, offsets of its further parts, choices and label.

    Raises:
        UserError: for an unknown name or split.
    """
    size = INSTRUMENTS.get(name).size
    if split not in SPLITS:
        raise unknown(f"split of {name}", split, SPLITS)
    return [made.to_row() for made in _questions(name, split, size)]


@cache
def _questions(name: str, split: str, size: int) -> tuple[Made, ...]:
    """All of a split, made once a process."""
    return tuple(make_row(name, split, index) for index in range(size))
