"""Which keys each query sees, as intervals of key indices, without an array over all pairs.

Neighbouring keys with equal facts and consecutive positions form a *run*. Every atom opens one
interval of positions per (query, run), in closed form; `&`, `|` and `~` act on unions of such spans
exactly; neighbouring spans then join over runs into row intervals. Time and memory grow with
queries times runs of the query's own segment. Runs on numpy slots, on the host.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64

from jaxablate.core.slots import Role, Slots
from jaxablate.masks.algebra import Atom, Mask
from jaxablate.masks.spans import Spans

_PAIRS_AT_ONCE = 2**20


class RowIntervals(NamedTuple):
    """Disjoint, maximal key intervals `[start, end)`, sorted by (row, query, start).

    `query` is the flat index `b * T + i`. Queries that see nothing do not occur.
    """

    query: Int64[np.ndarray, " E"]
    start: Int32[np.ndarray, " E"]
    end: Int32[np.ndarray, " E"]
    shape: tuple[int, int]  # B, T

    def counts(self) -> Int64[np.ndarray, "B T"]:
        """How many intervals each query has."""
        return np.bincount(self.query, minlength=self.shape[0] * self.shape[1]).reshape(self.shape)

    def pairs(self) -> Int64[np.ndarray, " B"]:
        """How many (query, key) pairs are open in each row."""
        weights = (self.end - self.start).astype(np.float64)
        width = max(1, self.shape[1])
        return np.bincount(self.query // width, weights, self.shape[0]).astype(np.int64)

    def padded(self) -> tuple[Int32[np.ndarray, "B T M"], Int32[np.ndarray, "B T M"]]:
        """Starts and ends as dense arrays; places not needed are empty, `[0, 0)`."""
        counts = self.counts().ravel()
        first = np.cumsum(counts) - counts
        place = np.arange(len(self.query)) - first[self.query]
        size = (len(counts), int(counts.max(initial=0)))
        start, end = np.zeros(size, np.int32), np.zeros(size, np.int32)
        start[self.query, place], end[self.query, place] = self.start, self.end
        shape = (*self.shape, size[1])
        return start.reshape(shape), end.reshape(shape)

    def last_end(self) -> Int32[np.ndarray, "B T"]:
        """One past the last key that each query sees; 0 where it sees nothing."""
        last = np.zeros(self.shape[0] * self.shape[1], np.int32)
        np.maximum.at(last, self.query, self.end)
        return last.reshape(self.shape)


class Runs(NamedTuple):
    """Runs of real keys, sorted by (row, segment), then by index."""

    facts: Slots  # of the first key, Int32[R]
    row: Int64[np.ndarray, " R"]
    start: Int32[np.ndarray, " R"]  # key index in the row
    length: Int32[np.ndarray, " R"]


class Pairs(NamedTuple):
    """(query, run) pairs that the rule above all rules admits, with the open offsets of the run."""

    query: Int64[np.ndarray, " M"]
    run: Int64[np.ndarray, " M"]
    open: Spans


def row_intervals(mask: Mask, queries: Slots, keys: Slots) -> RowIntervals:
    """The keys open to each query. The mask must be resolved (`mask.at(layer, head)`)."""
    runs = find_runs(keys)
    blocks = [_intervals(pairs, runs) for pairs in open_pairs(mask, queries, runs)]
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    query, start, end = map(np.concatenate, zip(nothing, *blocks, strict=True))
    return RowIntervals(query, start, end, queries.position.shape)


def valid_cuts(mask: Mask, slots: Slots) -> list[int]:
    """Where a prompt may be cut for chunked prefill, inside (0, T), for all rows together.

    A cut at c is valid if no query before c sees a key at or after c.
    """
    ends = row_intervals(mask, slots, slots).last_end()
    furthest = np.maximum.accumulate(ends.max(axis=0, initial=0))
    cuts = np.arange(1, ends.shape[1])
    return cuts[furthest[:-1] <= cuts].tolist()


def prompt_sees_response(mask: Mask, slots: Slots) -> Bool[np.ndarray, " B"]:
    """Rows in which a slot that is no response (prompt, latent, gist) sees a response key.

    Where this is true the responses of a shared prompt would change one another through it.
    """
    runs = find_runs(slots)
    role, width = slots.role.ravel(), max(1, slots.role.shape[1])
    seen = np.zeros(len(slots.role), bool)
    for pairs in open_pairs(mask, slots, runs):
        bad = (role[pairs.query] != Role.RESPONSE) & (runs.facts.role[pairs.run] == Role.RESPONSE)
        bad &= (pairs.open.low < pairs.open.high).any(axis=0)
        seen[pairs.query[bad] // width] = True
    return seen


def find_runs(keys: Slots) -> Runs:
    """The runs of real keys of all rows."""
    batch, width = keys.position.shape
    first = np.ones((batch, width), bool)
    same = np.diff(keys.position, axis=1) == 1
    for fact in (keys.segment, keys.role, keys.part, keys.branch):
        same &= fact[:, 1:] == fact[:, :-1]
    first[:, 1:] = ~same
    start = np.flatnonzero(first)
    length = np.diff(start, append=batch * width)
    facts = keys.map(lambda fact: fact.ravel()[start])
    real = np.flatnonzero(facts.segment != 0)
    order = real[np.lexsort((start[real], facts.segment[real], start[real] // max(1, width)))]
    start, length = start[order], length[order].astype(np.int32)
    row = start // max(1, width)
    return Runs(
        facts.map(lambda fact: fact[order]), row, (start - row * width).astype(np.int32), length
    )


def open_pairs(mask: Mask, queries: Slots, runs: Runs) -> Iterator[Pairs]:
    """All admitted (query, run) pairs, in order of query and run, a bounded number at a time."""
    if mask.selects_layers or mask.selects_heads:
        raise ValueError(f"mask {mask} differs between layers or heads; resolve it with at()")
    flat = queries.map(np.ravel)
    begin, count = _runs_of_queries(queries, runs)
    block_of_query = np.maximum(np.cumsum(count) - 1, 0) // _PAIRS_AT_ONCE
    edges = np.flatnonzero(np.diff(block_of_query, prepend=-1, append=-2))
    for first, last in pairwise(edges):
        block = slice(first, last)
        query, run = expand(np.arange(first, last), begin[block], count[block])
        compatible = _compatible(flat.branch[query], runs.facts.branch[run])
        query, run = query[compatible], run[compatible]
        facts = (flat.map(lambda fact, at=query: fact[at]), runs.facts.map(lambda f, at=run: f[at]))
        yield Pairs(query, run, _open_offsets(mask, *facts, runs.length[run]))


def _open_offsets(mask: Mask, query: Slots, run: Slots, length: Int32[np.ndarray, " M"]) -> Spans:
    def leaf(atom: Atom) -> Spans:
        low, high = atom.reach(query, run)
        return Spans.between(low - run.position, high - run.position, length)

    return mask.fold(leaf)


def _compatible(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    return (key == 0) | (query == 0) | (query == key)


def _runs_of_queries(queries: Slots, runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """For each query, flat, the first run of its (row, segment) and how many there are."""
    batch = len(queries.segment)
    base = 1 + max(queries.segment.max(initial=0), runs.facts.segment.max(initial=0)).astype(int)
    wanted = (np.arange(batch)[:, None] * base + queries.segment).ravel()
    group = runs.row * base + runs.facts.segment
    begin = np.searchsorted(group, wanted, "left")
    end = np.searchsorted(group, wanted, "right")
    return begin, np.where(queries.segment.ravel() != 0, end - begin, 0)


def expand(
    index: np.ndarray, begin: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each index with `begin`, `begin + 1`, ... (`count` of them)."""
    repeated = np.repeat(index, count)
    offset = np.repeat(begin - (np.cumsum(count) - count), count)
    return repeated, offset + np.arange(len(repeated))


def _intervals(pairs: Pairs, runs: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The open spans of all pairs as key intervals, joined where they touch."""
    origin = runs.start[pairs.run]
    start, end = (pairs.open.low + origin).T.ravel(), (pairs.open.high + origin).T.ravel()
    query = np.repeat(pairs.query, len(pairs.open.low))
    kept = start < end
    query, start, end = query[kept], start[kept], end[kept]
    joins = (query[1:] == query[:-1]) & (start[1:] == end[:-1])
    return (
        query[np.concatenate([[True], ~joins])[: len(query)]],
        start[np.concatenate([[True], ~joins])[: len(query)]],
        end[np.concatenate([~joins, [True]])[: len(query)]],
    )
