"""A text to learn from, as every source of text gives it."""

from typing import NamedTuple


class Document(NamedTuple):
    """One text to learn. Its `id` is unique within its source.

    The first `read_only` characters are read but not learned; with 0, all but the first token
    is learned.
    """

    id: str
    text: str
    read_only: int = 0
