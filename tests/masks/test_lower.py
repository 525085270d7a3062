"""Lowering is exact: intervals and lowered masks say what materialise says, on any slots."""

import time
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from jaxablate.core.slots import rows
from jaxablate.masks import parse
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


@settings(max_examples=250, deadline=None)
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


@settings(max_examples=80, deadline=None)
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


@settings(max_examples=15, deadline=None)
@given(masks, queries_and_keys())
def test_boolean_is_materialise_inside_a_program(mask, pair):
    queries, keys = pair
    lowered = lower(mask, queries, keys)
    num_keys = keys.position.shape[1]
    found = jax.jit(lambda x: x.boolean(num_keys))(lowered)
    np.testing.assert_array_equal(found, mask.materialise(queries, keys))


@settings(max_examples=60, deadline=None)
@given(masks, layouts)
def test_valid_cuts_and_prompt_sees_response_by_their_words(mask, slots):
    seen = mask.materialise(slots, slots)
    width = slots.position.shape[1]
    expected = [c for c in range(1, width) if not seen[:, :c, c:].any()]
    assert valid_cuts(mask, slots) == expected
    given_ = (slots.role != 2)[:, :, None] & (slots.role == 2)[:, None, :]
    np.testing.assert_array_equal(
        prompt_sees_response(mask, slots), (seen & given_).any(axis=(1, 2))
    )


@pytest.mark.parametrize(
    ("mask", "layout", "kind"),
    [
        ("causal", "P3 R2 ..", "causal"),
        ("causal", "R3", "causal"),
        ("prefix_lm", "P3 R2 ..", "prefix"),
        ("prefix_lm", "P3 ..", "full"),
        ("full_bidirectional", "P3 R2 ..", "full"),
        ("sliding_window(2)", "P3 R2 ..", "window"),
        ("sliding_window(5)", "P3 R2 ..", "causal"),
        ("sliding_window(4)", "P3 R2 ..", "window"),
        ("window(2, 1)", "P3 R2", "rows"),
        ("causal", "P3 R2; P1 R1", "rows"),
        ("causal", ". P3", "rows"),
        ("prefix_lm", "P3 . R2", "dense"),
        ("gist", "P3 G1 R2", "rows"),
        ("sink(1) & causal | sliding_window(2)", "P5", "dense"),
        ("prefix_lm", "P2 {R2|R1}", "dense"),
        ("nothing", "P3", "causal"),
    ],
)
def test_kind(mask, layout, kind):
    slots = read_layout(layout)
    assert lower(parse(mask), slots, slots).kind == kind


def test_kind_is_claimed_for_the_whole_batch_or_not_at_all():
    mixed = rows([4, 6, 0], 8, [0, 3, 0])
    lowered = lower(parse("prefix_lm"), mixed, mixed)
    assert lowered.kind == "prefix"
    np.testing.assert_array_equal(lowered.prefix, [1, 3, 0])
    np.testing.assert_array_equal(lowered.query_lengths, [4, 6, 0])
    short = rows([2, 3], 4)
    assert lower(parse("sliding_window(3)"), short, short).kind == "causal"


def test_long_windows_are_not_taken_for_causal():
    slots = rows([1500], 1600)
    lowered = lower(parse("sliding_window(1024)"), slots, slots)
    assert (lowered.kind, lowered.window) == ("window", 1024)


def test_chunk_of_a_cache_is_an_interval_at_absolute_slots():
    """Queries 4..5 of a prompt, and one decode step, against the same cache."""
    keys = rows([6], 8, [4])
    chunk = keys.map(lambda field: field[:, 4:6])
    lowered = lower(parse("prefix_lm"), chunk, keys)
    assert lowered.kind == "rows"
    np.testing.assert_array_equal(lowered.k_end, [[5, 6]])
    step = keys.map(lambda field: field[:, 5:6])
    lowered = lower(parse("prefix_lm"), step, keys)
    assert lowered.kind == "full"
    np.testing.assert_array_equal(lowered.key_lengths, [6])


def test_empty_rows_keep_both_vectors_in_order():
    slots = read_layout("P2 R1 .; P1; P2 ..")
    lowered = lower(parse("causal"), slots, slots)
    assert (np.diff(lowered.k_start) >= 0).all()
    assert (np.diff(lowered.k_end) >= 0).all()
    empty = lowered.k_start == lowered.k_end
    np.testing.assert_array_equal(empty, slots.segment == 0)


def test_lowered_is_a_pytree_with_its_structure_static():
    slots = rows([3, 4], 5, [2, 1])
    lowered = lower(parse("prefix_lm"), slots, slots)
    leaves, structure = jax.tree.flatten(lowered)
    assert len(leaves) == 5
    again = jax.tree.unflatten(structure, leaves)
    assert (again.kind, again.mask, again.window) == ("prefix", None, None)
    slots = rows([5, 2], 5, [3, 1])
    other = lower(parse("prefix_lm"), slots, slots)
    assert jax.tree.structure(other) == structure


def test_as_rows_keeps_the_mask_and_drops_the_claim():
    slots = rows([3, 4], 5, [2, 1])
    lowered = lower(parse("prefix_lm"), slots, slots)
    rows_only = lowered.as_rows()
    assert rows_only.kind == "rows"
    np.testing.assert_array_equal(rows_only.boolean(5), lowered.boolean(5))
    branches = read_layout("P2 {R1|R1}")
    dense = lower(parse("causal"), branches, branches)
    assert dense.as_rows() is dense


def test_masks_that_differ_by_layer_are_not_lowered_as_one():
    slots = rows([3], 4)
    for function in (lower, row_intervals):
        with pytest.raises(ValueError, match="resolve it with at"):
            function(parse("layers(2) & causal"), slots, slots)
    for function in (valid_cuts, prompt_sees_response):
        with pytest.raises(ValueError, match="resolve it with at"):
            function(parse("heads(2) & causal"), slots)


def test_batch_of_packed_rows_is_lowered_in_milliseconds():
    one = read_layout("; ".join(["P35 R15"] * 10) + " .12")
    slots = one.map(lambda field: np.repeat(field, 96, axis=0))
    start = time.process_time()
    lowered = lower(parse("prefix_lm"), slots, slots)
    assert time.process_time() - start < 0.5
    assert lowered.kind == "rows"


@pytest.mark.parametrize("mask", ["prefix_lm", "gist", "window(100, 50) | sink(4) | chunk(64)"])
def test_long_row_is_lowered_without_an_array_over_all_pairs(mask):
    width = 32768
    slots = rows([width - 10], width, [9000])
    start = time.process_time()
    tracemalloc.start()
    row_intervals(parse(mask), slots, slots)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 2
    assert peak < width * width / 16


def test_many_runs_are_worked_off_in_bounded_blocks():
    """Every slot is a run of its own, so there are T x T pairs, but never all at once."""
    width = 4096
    slots = rows([width], width)
    slots.part[0] = np.arange(width) % 2 + 1
    tracemalloc.start()
    found = row_intervals(parse("causal & sink(2)"), slots, slots)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.pairs() == 2 * width - 1
    assert peak < 12 * width * width
