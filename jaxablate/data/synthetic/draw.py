"""Draws that are the same on every machine and Python: a name gives the whole sequence."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Random choices named by a text.

    Only `Random.random` is used: of all of the module's methods it alone is promised to give the
    same sequence in every version.

    >>> Draw("a").below(1000) == Draw("a").below(1000)
    True
    """

    def __init__(self, name: str):
        self._random = random.Random(name)

    def below(self, count: int) -> int:
        """An integer in 0..count-1."""
        return int(self._random.random() * count)

    def between(self, least: int, most: int) -> int:
        """An integer in least..most, both included."""
        return least + self.below(most - least + 1)

    def one(self, things: Sequence[T]) -> T:
        """One of the things."""
        return things[self.below(len(things))]

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """`count` of the things in random order, none twice."""
        pool, size, draw = list(things), len(things), self._random.random
        for at in range(count):
            other = at + int(draw() * (size - at))
            pool[at], pool[other] = pool[other], pool[at]
        return pool[:count]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """All of the things in random order."""
        return self.some(things, len(things))


# One content in this many belongs to the validation side.
VALIDATION_SHARE = 16


def is_validation(content: object) -> bool:
    """Whether what has this content may be in the validation split; training has all else.

    The side is a hash of the content alone, so nothing can be in both, and the content itself
    says nothing about its side that a model could learn.
    """
    word = hashlib.sha256(repr(content).encode()).digest()
    return int.from_bytes(word[:8], "big") % VALIDATION_SHARE == 0
