"""Lowering: what a kernel takes instead of a mask. Exact or refused, never an approximation.

The kind of a lowered mask is read off the concrete intervals of the whole batch, so a claim such as
"causal" is proven for every row, not guessed from the mask's name or from a small example.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxablate.core.slots import Slots
from jaxablate.masks.algebra import Mask
from jaxablate.masks.intervals import (
    RowIntervals,
    prompt_sees_response,
    row_intervals,
    valid_cuts,
)

__all__ = ["Lowered", "lower", "prompt_sees_response", "row_intervals", "valid_cuts"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A mask over concrete slots, for kernels; `kind` says what is proven of them.

    n is `query_lengths[b]`, m is `key_lengths[b]`; queries from n on see nothing.

    | kind | query i < n sees keys | |
    |---|---|---|
    | causal | [0, i+1) | n = m |
    | full | [0, m) | |
    | window | [max(0, i+1-window), i+1) | n = m |
    | prefix | [0, max(i+1, prefix[b])) | n = m, prefix[b] <= n |
    | rows | [k_start, k_end) | |
    | dense | what `mask` says of `queries` and `keys` | |

    All kinds but dense carry the row intervals `k_start`, `k_end`. An empty interval has
    `k_start == k_end`, at a place that keeps both in order where they are.
    """

    kind: str = field(metadata={"static": True})
    window: int | None = field(default=None, metadata={"static": True})
    mask: Mask | None = field(default=None, metadata={"static": True})
    k_start: Any = None  # Int32[B T]
    k_end: Any = None  # Int32[B T]
    query_lengths: Any = None  # Int32[B]
    key_lengths: Any = None  # Int32[B]
    prefix: Any = None  # Int32[B]
    queries: Slots | None = None
    keys: Slots | None = None

    def boolean(self, num_keys: int) -> Bool[Array, "B T S"]:
        """The mask as an array; inside a compiled program it is made there."""
        if self.mask is not None:
            assert self.queries is not None
            assert self.keys is not None
            return self.mask.materialise(self.queries.map(jnp.asarray), self.keys.map(jnp.asarray))
        start, end = jnp.asarray(self.k_start)[:, :, None], jnp.asarray(self.k_end)[:, :, None]
        key = jnp.arange(num_keys, dtype=jnp.int32)[None, None, :]
        return (start <= key) & (key < end)

    def as_rows(self) -> "Lowered":
        """The same mask as row intervals, so that batches whose kinds differ run one program.

        A dense one stays as it is.
        """
        if self.kind == "dense":
            return self
        return Lowered(kind="rows", k_start=self.k_start, k_end=self.k_end)


def lower(mask: Mask, queries: Slots, keys: Slots) -> Lowered:
    """The cheapest exact form of `mask` on these numpy slots.

    The mask must be resolved (`mask.at(layer, head)`). Exact for any slots: packed, padded
    anywhere, with branches, with queries that are a part of the keys (decode, chunked prefill).
    """
    found = row_intervals(mask, queries, keys)
    if found.counts().max(initial=0) > 1:
        return Lowered(kind="dense", mask=mask, queries=queries, keys=keys)
    k_start, k_end = _row_vectors(found)
    return _classify(k_start, k_end)


def _row_vectors(found: RowIntervals) -> tuple[np.ndarray, np.ndarray]:
    """`k_start`, `k_end`; an empty row stands at the end of the last row that is not."""
    k_start, k_end = np.zeros((2, *found.shape), np.int32)
    k_start.ravel()[found.query], k_end.ravel()[found.query] = found.start, found.end
    empty = k_start == k_end
    index = np.where(empty, 0, np.arange(found.shape[1]))
    latest = np.maximum.accumulate(index, axis=1)
    filled = np.take_along_axis(k_end, latest, axis=1)
    return np.where(empty, filled, k_start), np.where(empty, filled, k_end)


def _classify(k_start: np.ndarray, k_end: np.ndarray) -> Lowered:
    """The most special kind that every row of the batch proves.

    An empty row before the n-th query fails every comparison, as none of them allows an empty one.
    """
    seen = k_start < k_end
    n = seen.sum(axis=1, dtype=np.int32)
    index = np.arange(k_end.shape[1])[None, :]
    real = index < n[:, None]
    m = np.where(seen, k_end, 0).max(axis=1, initial=0).astype(np.int32)
    lengths: dict[str, Any] = {"query_lengths": n, "key_lengths": m}
    rows: dict[str, Any] = {"k_start": k_start, "k_end": k_end}

    def holds(start: np.ndarray | int, end: np.ndarray) -> bool:
        return bool(np.all(~real | ((k_start == start) & (k_end == end))))

    if np.all(n == m):
        if holds(0, index + 1):
            return Lowered(kind="causal", **rows, **lengths)
        window = int(np.max(np.where(real, k_end - k_start, 1), initial=1))
        if holds(np.maximum(0, index + 1 - window), index + 1):
            return Lowered(kind="window", window=window, **rows, **lengths)
    if holds(0, m[:, None]):
        return Lowered(kind="full", **rows, **lengths)
    prefix = np.where(n > 0, k_end[:, :1].max(axis=1, initial=0), 0).astype(np.int32)
    if np.all(n == m) and holds(0, np.maximum(index + 1, prefix[:, None])):
        return Lowered(kind="prefix", prefix=prefix, **rows, **lengths)
    return Lowered(kind="rows", **rows)
