"""Several examples in one row: best-fit decreasing, so that few slots are padding.

Segments keep the examples apart for every mask, so a packed row trains as its examples alone do.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from jaxablate.core.errors import UserError


def best_fit(
    lengths: Sequence[int] | Int[np.ndarray, " N"],
    width: int,
    *,
    order: Int[np.ndarray, " N"] | None = None,
) -> list[list[int]]:
    """Rows of at most `width` tokens, each a list of indices into `lengths`.

    Longest first, each into the fullest row that has room. The rows' lengths depend on the
    multiset of lengths alone; `order`, a permutation, decides which of several equally long
    examples takes which place.

    >>> best_fit([5, 3, 4, 2, 2], 8)
    [[0, 1], [2, 3, 4]]
    """
    sizes = np.asarray(lengths, np.int64)
    _check(sizes, width)
    order = np.arange(len(sizes)) if order is None else order
    longest_first = order[np.argsort(-sizes[order], kind="stable")]
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]
    # Bit s is set while some row has exactly s free slots; the lowest bit >= size is the best fit.
    free = 0
    for index, size in zip(longest_first.tolist(), sizes[longest_first].tolist(), strict=True):
        fitting = free >> size
        room = size + (fitting & -fitting).bit_length() - 1 if fitting else width
        if fitting:
            row = with_room[room].pop()
            free &= ~(int(not with_room[room]) << room)
            rows[row].append(index)
        else:
            row = len(rows)
            rows.append([index])
        with_room[room - size].append(row)
        free |= 1 << (room - size)
    return rows


def _check(sizes: Int[np.ndarray, " N"], width: int) -> None:
    if width < 1:
        raise UserError(f"a row needs a width >= 1, got {width}")
    if len(sizes) and (sizes.min() < 1 or sizes.max() > width):
        raise UserError(
            f"lengths must be within 1..{width} to be packed, got {sizes.min()}..{sizes.max()}"
        )
