"""What an instrument is: a maker of questions with known answers, and of text that teaches them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxablate.core.errors import UserError
from jaxablate.core.registry import Registry
from jaxablate.data.synthetic.draw import Draw, is_validation

SPLITS = ("train", "validation")
_TRIES = 10_000


class Made(NamedTuple):
    """One question before it is a row.

    Attributes:
        parts: the parts of the prompt; joined they are its text, which does not end in a space.
        choices: the answers to choose from, each to follow the prompt after a space.
        label: which of them is right.
        content: what makes the question new. Training and validation share no content.
    """

    parts: tuple[str, ...]
    choices: tuple[str, ...]
    label: int
    content: object

    def to_row(self) -> dict[str, Any]:
        """The question as a benchmark's row of plain JSON values.

        `parts` are the characters of the prompt at which its second, third, ... part begins.
        """
        starts, at = [], 0
        for part in self.parts[:-1]:
            at += len(part)
            starts.append(at)
        return {
            "prompt": "".join(self.parts),
            "parts": starts,
            "choices": list(self.choices),
            "label": self.label,
        }


class Lesson(NamedTuple):
    """A text to learn from before it is a document; `content` as in `Made`, None if it has none.

    The first `read_only` characters are read but not learned.
    """

    text: str
    read_only: int
    content: object = None


class Instrument(NamedTuple):
    """How the rows of an instrument are made.

    Attributes:
        make: one question from the draws of its own name.
        stream: name of the draws; instruments of one name ask the same. Empty: its own name.
        size: rows of each split.
        trained: whether its train split may be learned from.
    """

    make: Callable[[Draw], Made]
    stream: str = ""
    size: int = 1000
    trained: bool = True


INSTRUMENTS: Registry[Instrument] = Registry("instrument")
LESSONS: Registry[Callable[[Draw], Lesson]] = Registry("kind of synthetic documents")


def make_row(name: str, split: str, index: int, *, seed: int = 0) -> Made:
    """Question `index` of a split: the first draw whose content belongs to that split."""
    instrument, wanted = INSTRUMENTS.get(name), split == "validation"
    stream = f"{instrument.stream or name}/{split}{seed or ''}/{index}"
    for attempt in range(_TRIES):
        made = instrument.make(Draw(f"{stream}/{attempt}"))
        if is_validation(made.content) == wanted:
            return made
    raise UserError(f"{name}: no {split} row in {_TRIES} draws")


def make_lesson(name: str, seed: int, index: int) -> Lesson:
    """Text `index` of a kind; never with the content of a validation row."""
    teach = LESSONS.get(name)
    for attempt in range(_TRIES):
        lesson = teach(Draw(f"documents/{name}/{seed}/{index}/{attempt}"))
        if lesson.content is None or not is_validation(lesson.content):
            return lesson
    raise UserError(f"{name}: no document in {_TRIES} draws")
