"""Sets of offsets, many at once: what `&`, `|` and `~` act on while a mask is lowered."""

from typing import Any

import numpy as np
from jaxtyping import Int32


class Spans:
    """For each of M runs of keys, the set of offsets that are open, as a union of half-open spans.

    Set m is the union of `[low[k, m], high[k, m])` over k. The spans of a set are sorted, disjoint
    and do not touch; unused ones stand last as `[length[m], length[m])`.
    """

    def __init__(self, low: Int32[np.ndarray, "K M"], high: Int32[np.ndarray, "K M"], length: Any):
        self.low, self.high, self.length = low, high, length  # length: Int32[M]

    @classmethod
    def between(cls, low: Any, high: Any, length: Int32[np.ndarray, " M"]) -> "Spans":
        """One span per set, cut to `[0, length)`."""
        low = np.clip(low, 0, length).astype(np.int32, copy=False)
        high = np.clip(high, 0, length).astype(np.int32, copy=False)
        low, high = np.broadcast_to(low, length.shape), np.broadcast_to(high, length.shape)
        return cls._tidy(low[None], high[None], length)

    def __or__(self, other: "Spans") -> "Spans":
        low = np.concatenate([self.low, other.low])
        high = np.concatenate([self.high, other.high])
        return self._tidy(low, high, self.length)

    def __and__(self, other: "Spans") -> "Spans":
        if min(len(self.low), len(other.low)) > 1:
            return ~(~self | ~other)
        low, high = np.maximum(self.low, other.low), np.minimum(self.high, other.high)
        return self._tidy(low, high, self.length)

    def __invert__(self) -> "Spans":
        edge = np.zeros_like(self.length)[None]
        low = np.concatenate([edge, self.high])
        high = np.concatenate([self.low, self.length[None]])
        return self._tidy(low, high, self.length)

    @classmethod
    def _tidy(cls, low: Any, high: Any, length: Any) -> "Spans":
        """Sort, merge what overlaps or touches, and drop the places that no set needs."""
        empty = high <= low
        low, high = np.where(empty, length, low), np.where(empty, length, high)
        if len(low) > 1:
            low, high = _merge(*_sorted(low, high), length)
            needed = max(1, int((low < high).sum(axis=0).max(initial=0)))
            low, high = (x[:needed] for x in _sorted(low, high))
        return cls(low, high, length)


def _merge(low: Any, high: Any, length: Any) -> tuple[Any, Any]:
    """Spans sorted by `low`, joined where they overlap or touch; the joined ones become empty."""
    high = np.maximum.accumulate(high, axis=0)
    low = low.copy()
    for k in range(len(low) - 1, 0, -1):
        joins = low[k] <= high[k - 1]
        high[k - 1] = np.where(joins, high[k], high[k - 1])
        low[k] = np.where(joins, length, low[k])
        high[k] = np.where(joins, length, high[k])
    return low, high


def _sorted(low: Any, high: Any) -> tuple[Any, Any]:
    """Both sorted by `low` along the first axis; two rows, the usual number, by one exchange."""
    if len(low) == 2:
        swap = low[1] < low[0]
        order = (swap, ~swap)
        low, high = (np.stack([np.where(s, x[1], x[0]) for s in order]) for x in (low, high))
        return low, high
    order = np.argsort(low, axis=0, kind="stable")
    return np.take_along_axis(low, order, axis=0), np.take_along_axis(high, order, axis=0)
