"""Which slots a position's output can depend on, through any number of layers.

Within one row, query i sees key j by attention; the residual stream keeps i itself. What can be
reached from i is the closure of both, with the layers' masks applied from the top down. Everything
works on row intervals; memory stays O(T log T), or a bounded block of T-wide rows.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from jaxablate.masks.intervals import RowIntervals

_CELLS_AT_ONCE = 2**22

Vector = Int[np.ndarray, " N"]
PerRange = Int[np.ndarray, " M"]


class RangeExtremes:
    """Minimum of one array and maximum of another over index ranges, by sparse tables."""

    def __init__(self, low: Vector, high: Vector, longest: int):
        self.low, self.high = [low], [high]
        span = 1
        while 2 * span <= longest:
            self.low.append(np.minimum(self.low[-1][:-span], self.low[-1][span:]))
            self.high.append(np.maximum(self.high[-1][:-span], self.high[-1][span:]))
            span *= 2

    def __call__(self, first: PerRange, last: PerRange) -> tuple[PerRange, PerRange]:
        """(min of low, max of high) over [first, last], both included."""
        level = np.frexp(last - first + 1)[1] - 1
        low, high = np.empty_like(first), np.empty_like(last)
        for k in np.unique(level):
            here = level == k
            left, right = first[here], last[here] + 1 - (1 << k)
            low[here] = np.minimum(self.low[k][left], self.low[k][right])
            high[here] = np.maximum(self.high[k][left], self.high[k][right])
        return low, high


def largest_in(values: Vector, start: PerRange, end: PerRange, longest: int) -> PerRange:
    """The largest of `values[start:end]` for each non-empty range.

    Where the values rise along a range it is the last one; only other ranges need a table.
    """
    falls = np.cumsum(np.diff(values, prepend=values[:1]) < 0)
    largest = values[end - 1]
    bent = falls[end - 1] != falls[start]
    if bent.any():
        table = RangeExtremes(values, values, longest)
        largest[bent] = table(start[bent], end[bent] - 1)[1]
    return largest


def hulls(layers: Sequence[RowIntervals]) -> tuple[Vector, Vector, Bool[np.ndarray, " B"]]:
    """For each flat slot the first and last slot reachable from it, and the rows where that is all.

    `layers` are listed bottom first. Never too small; in rows marked exact every slot between the
    two is reachable, because each slot sees one interval that holds or touches itself.
    """
    batch, width = layers[0].shape
    slot = np.arange(batch * width)
    low, high, exact = slot, slot, np.ones(batch, bool)
    for group in _grouped(layers):
        start, end = slot.copy(), slot.copy()  # end included
        offset = group[0].query // width * width
        np.minimum.at(start, group[0].query, group[0].start + offset)
        np.maximum.at(end, group[0].query, group[0].end + offset - 1)
        exact &= _connected(group[0])
        table = RangeExtremes(start, end, width)
        for _ in group:
            before = low, high
            low, high = table(low, high)
            if np.array_equal(before[0], low) and np.array_equal(before[1], high):
                break
    return low, high, exact


def _connected(rows: RowIntervals) -> Bool[np.ndarray, " B"]:
    """Rows in which every slot together with the keys it sees is one interval."""
    width = rows.shape[1]
    place = rows.query % width
    good = (rows.start <= place + 1) & (rows.end >= place)
    connected = np.all(rows.counts() <= 1, axis=1)
    connected[rows.query[~good] // width] = False
    return connected


def _grouped(layers: Sequence[RowIntervals]) -> list[list[RowIntervals]]:
    """Top-down runs of layers with the very same intervals."""
    groups: list[list[RowIntervals]] = []
    for layer in reversed(layers):
        if groups and groups[-1][0] is layer:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return groups


def reaches(
    layers: Sequence[RowIntervals], query: Vector, target: Vector
) -> Bool[np.ndarray, " Q"]:
    """Exactly whether each `target` is reachable from its `query`; `layers` hold one row."""
    width = layers[0].shape[1]
    size = max(1, _CELLS_AT_ONCE // (width + 1))
    found = [
        _reaches_block(layers, query[i : i + size], target[i : i + size])
        for i in range(0, len(query), size)
    ]
    return np.concatenate([np.zeros(0, bool), *found])


def _reaches_block(
    layers: Sequence[RowIntervals], query: Vector, target: Vector
) -> Bool[np.ndarray, " Q"]:
    return reached_from(layers, query)[np.arange(len(query)), target]


def reached_from(layers: Sequence[RowIntervals], query: Vector) -> Bool[np.ndarray, "Q T"]:
    """Every slot that is reachable from each `query`; `layers` hold one row."""
    reached = np.zeros((len(query), layers[0].shape[1]), bool)
    reached[np.arange(len(query)), query] = True
    for group in _grouped(layers):
        for _ in group:
            further = reached | seen_by(group[0], reached)
            if np.array_equal(further, reached):
                break
            reached = further
    return reached


def seen_by(rows: RowIntervals, slots: Bool[np.ndarray, "Q T"]) -> Bool[np.ndarray, "Q T"]:
    """The keys that at least one of the marked slots sees; `rows` hold one row."""
    edges = np.zeros((slots.shape[1] + 1, len(slots)), np.int32)  # key, set
    marked = slots.T[rows.query].astype(np.int32)
    _add_at(edges, rows.start, marked)
    _add_at(edges, rows.end, -marked)
    return np.cumsum(edges[:-1], axis=0).T > 0


def _add_at(total: np.ndarray, index: Vector, values: np.ndarray) -> None:
    """`total[index] += values`, with repeated indices summed."""
    if not len(index):
        return
    order = np.argsort(index, kind="stable")
    places, first = np.unique(index[order], return_index=True)
    total[places] += np.add.reduceat(values[order], first, axis=0)


def shortest_path(layers: Sequence[RowIntervals], query: int, target: int) -> tuple[int, ...]:
    """The slots of a path with fewest attention steps, from `query` to a reachable `target`."""
    width = layers[0].shape[1]
    steps = np.full(width, len(layers) + 1)
    steps[query] = 0
    history = [steps]
    for layer in reversed(layers):
        for count in np.unique(history[-1][history[-1] <= len(layers)]):
            seen = seen_by(layer, (history[-1] == count)[None])[0]
            steps = np.where(seen, np.minimum(steps, count + 1), steps)
        history.append(steps)
    return _walk_back(layers, history, target)


def _walk_back(
    layers: Sequence[RowIntervals], history: list[np.ndarray], target: int
) -> tuple[int, ...]:
    path = [target]
    for layer, before, after in zip(layers, history[-2::-1], history[:0:-1], strict=True):
        if before[path[-1]] != after[path[-1]]:
            sees = layer.query[(layer.start <= path[-1]) & (path[-1] < layer.end)]
            path.append(int(sees[before[sees] == after[path[-1]] - 1][0]))
    return tuple(reversed(path))
