"""One wrong input: how it is made, and which words its error must hold."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class BadInput(NamedTuple):
    """`make` spoils a good input at a path, or writes a wrong one there."""

    id: str
    make: Callable[[Path], object]
    words: tuple[str, ...]


def check_ids(cases: list[BadInput]) -> list[BadInput]:
    """The cases, whose names must differ."""
    names = [case.id for case in cases]
    assert len(set(names)) == len(names)
    return cases


def write(data: bytes | str) -> Callable[[Path], object]:
    """Makes the input by writing these bytes."""
    raw = data.encode() if isinstance(data, str) else data
    return lambda path: path.write_bytes(raw)
