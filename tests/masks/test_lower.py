"""Lowering is exact: intervals and lowered masks say what materialise says, on any slots."""

import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.core.slots import Slots, rows
from jaxablate.masks import named, parse
from jaxablate.masks.draw import read_layout
from jaxablate.masks.intervals import row_intervals
from jaxablate.masks.lower import Lowered, lower, prompt_sees_response, valid_cuts
from tests.masks.strategies import layouts, masks, queries_and_keys


def from_definition(lowered: Lowered, num_keys: int) -> np.ndarray:
    """Each kind as its own line of the table in `Lowered` says, in plain loops over numpy."""
    batch, width = lowered.k_start.shape
    seen = np.zeros((batch, width, num_keys), bool)
    for b in range(batch):
        for i in range(width):
            start, end = lowered.k_start[b, i], lowered.k_end[b, i]
            if lowered.kind != "rows":
                n, m = lowered.query_lengths[b], lowered.key_lengths[b]
                assert lowered.kind == "full" or n == m
                start = 0
                match lowered.kind:
                    case "causal":
                        end = i + 1
                    case "full":
                        end = m
                    case "window":
                        start, end = max(0, i + 1 - lowered.window), i + 1
                    case "prefix":
                        assert lowered.prefix[b] <= n
                        end = max(i + 1, lowered.prefix[b])
                if i >= n:
                    start = end = 0
            seen[b, i, start:end] = True
    return seen


@settings(max_examples=400, deadline=None)
@given(masks, queries_and_keys())
def test_lowered_is_materialised(mask, pair):
    queries, keys = pair
    expected = mask.materialise(queries, keys)
    lowered = lower(mask, queries, keys)
    num_keys = keys.position.shape[1]
    if lowered.kind == "dense":
        assert (np.diff(expected, axis=-1, prepend=False, append=False).sum(axis=-1) > 2).any()
        found = mask.materialise(lowered.queries, lowered.keys)
    else:
        found = from_definition(lowered, num_keys)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=150, deadline=None)
@given(masks, queries_and_keys())
def test_row_intervals_are_the_maximal_stretches_of_each_row(mask, pair):
    queries, keys = pair
    expected = mask.materialise(queries, keys)
    found = row_intervals(mask, queries, keys)
    start, end = found.padded()
    key = np.arange(keys.position.shape[1])
    seen = ((start[..., None] <= key) & (key < end[..., None])).any(axis=2)
    np.testing.assert_array_equal(seen, expected)
    edges = np.diff(expected, axis=-1, prepend=False, append=False).sum(axis=-1) // 2
    np.testing.assert_array_equal(found.counts(), edges)
    np.testing.assert_array_equal(found.pairs(), expected.sum(axis=(1, 2)))
    last = np.where(expected, key + 1, 0).max(axis=-1, initial=0)
    np.testing.assert_array_equal(found.last_end(), last)
