"""Texts as runs of words (letters and digits, lower case) with a 64-bit hash for every run.

Hashes are polynomials over bytes and over words, from prefix sums modulo 2^64, so that all runs of
n words of a book come from a few passes of numpy. Whoever needs certainty compares the words.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int, UInt64

_BYTE_BASE, _WORD_BASE = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93  # odd, hence invertible
_IS_WORD = np.zeros(256, np.bool_)
_IS_WORD[[*b"abcdefghijklmnopqrstuvwxyz0123456789"]] = True


@dataclass(frozen=True)
class Words:
    """The words of a text.

    Attributes:
        raw: the lower-cased text in UTF-8; words are the longest runs of a-z and 0-9 in it.
        starts, ends: of each word, in bytes of `raw`.
        sums: prefix sums of the words' hashes; see `runs`.
    """

    raw: bytes
    starts: Int[np.ndarray, " N"]
    ends: Int[np.ndarray, " N"]
    sums: UInt64[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.starts)

    def runs(
        self, first: Int[np.ndarray, " R"], length: Int[np.ndarray, " R"] | int
    ) -> UInt64[np.ndarray, " R"]:
        """Hash of each run of words `first[r] .. first[r] + length[r] - 1`, which must exist."""
        total = self.sums[first + length] - self.sums[first]
        return _mixed(total * _powers(_inverse(_WORD_BASE), len(self) + 1)[first])

    def joined(self, first: int, length: int) -> bytes:
        """The words of one run, with a space between them."""
        chosen = slice(first, first + length)
        spans = zip(self.starts[chosen], self.ends[chosen], strict=True)
        return b" ".join(self.raw[start:end] for start, end in spans)


def split_words(text: str | bytes) -> Words:
    """The words of a text; bytes are taken for `lowered` text.

    >>> words = split_words("It's 2 o'clock")
    >>> len(words), words.joined(0, 5)
    (5, b'it s 2 o clock')
    """
    raw = lowered(text) if isinstance(text, str) else text
    content = np.frombuffer(raw, np.uint8)
    edges = np.diff(_IS_WORD[content].astype(np.int8), prepend=np.int8(0), append=np.int8(0))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    byte_sums = _prefix_sums(content.astype(np.uint64) + np.uint64(1), _BYTE_BASE)
    hashes = byte_sums[ends] - byte_sums[starts]
    hashes *= _powers(_inverse(_BYTE_BASE), len(raw) + 1)[starts]
    return Words(raw, starts, ends, _prefix_sums(_mixed(hashes), _WORD_BASE))


def lowered(text: str) -> bytes:
    """UTF-8 of the lower-cased text; what is no Unicode text (a lone surrogate) becomes "?"."""
    return text.lower().encode("utf-8", "replace")


def within_sorted(
    values: UInt64[np.ndarray, " R"],
    table: UInt64[np.ndarray, " H"],
    filled: Bool[np.ndarray, " F"],
) -> Int[np.ndarray, " K"]:
    """Indices of the values that are in `table`; `filled` is `occupied(table)`."""
    maybe = np.flatnonzero(filled[_bucket(values)])
    places = np.searchsorted(table, values[maybe])
    places[places == len(table)] = 0
    return maybe[table[places] == values[maybe]] if len(table) else maybe[:0]


def occupied(table: UInt64[np.ndarray, " H"]) -> Bool[np.ndarray, " F"]:
    """Which leading 24 bits occur in a table: most values are known to be absent by one look."""
    filled = np.zeros(1 << 24, np.bool_)
    filled[_bucket(table)] = True
    return filled


def _bucket(values: UInt64[np.ndarray, " R"]) -> Int[np.ndarray, " R"]:
    return (values >> np.uint64(40)).astype(np.int64)


def _prefix_sums(values: UInt64[np.ndarray, " N"], base: int) -> UInt64[np.ndarray, " M"]:
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * _powers(base, len(values)), out=sums[1:])
    return sums


def _mixed(values: UInt64[np.ndarray, " N"]) -> UInt64[np.ndarray, " N"]:
    """Every bit depends on every bit (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _inverse(base: int) -> int:
    return pow(base, -1, 1 << 64)


def _powers(base: int, count: int) -> UInt64[np.ndarray, " N"]:
    """`base` to the power of 0, 1, ... modulo 2^64, at least `count` of them, cut to `count`."""
    return _power_table(base, max(1 << 16, 1 << (count - 1).bit_length()))[:count]


@lru_cache(maxsize=16)
def _power_table(base: int, count: int) -> UInt64[np.ndarray, " N"]:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
