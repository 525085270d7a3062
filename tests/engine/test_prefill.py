"""A kept plan changes no result: whatever a prompt's reading depends on is part of its key."""

import jax
import numpy as np
import pytest

from jaxablate.core.slots import Slots, rows
from jaxablate.engine.prefill import KEPT_SLOTS, _kept_plan, prefill
from jaxablate.engine.skeleton import skeleton
from jaxablate.masks.parse import parse
from tests.engine.models import VOCAB, random_model

TOKENS = np.random.default_rng(0).integers(0, VOCAB, (2, 16)).astype(np.int32)
BASE = {"slots": rows([16, 12], 16, [9, 4]), "mask": "prefix_lm", "policy": "drop"}
DENSE = "sink(1) | window(3) & causal"
INDEX = np.arange(16, dtype=np.int32)


@pytest.fixture(scope="module")
def lm():
    return random_model(windows=(None, 4))


def read(lm, tokens=TOKENS, **changes):
    given = BASE | changes
    return prefill(lm, tokens, given.pop("slots"), parse(given.pop("mask")), room=4, **given)


def with_field(name, change):
    return {"slots": BASE["slots"]._replace(**{name: change(getattr(BASE["slots"], name))})}


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": "causal"},
        {"policy": "causal_side"},
        {"slots": rows([16, 11], 16, [9, 4])},
        {"slots": rows([16, 12], 16, [9, 5])},
        with_field("position", lambda field: field * 2),
        with_field("segment", lambda field: field + (INDEX > 10) * (field > 0)),
        with_field("branch", lambda field: field + (INDEX > 10) * (1 + INDEX % 2)),
        {"mask": "causal & same_part"} | with_field("part", lambda field: 1 + 0 * field),
    ],
)
def test_whatever_changes_is_read_as_if_nothing_had_been_kept(lm, changes):
    mask = changes.get("mask", "prefix_lm")
    before = read(lm), read(lm, mask=mask)
    found = read(lm, **changes)
    _kept_plan.cache_clear()
    expected = read(lm, **changes)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    other = before[list(changes) != ["mask"]]
    assert np.abs(np.asarray(found.hidden - other.hidden)).max() > 1e-3


def test_the_same_slots_are_planned_once_and_a_longer_prompt_is_not_kept(lm):
    _kept_plan.cache_clear()
    first, again = read(lm), read(lm, slots=BASE["slots"].map(np.copy))
    assert (_kept_plan.cache_info().hits, _kept_plan.cache_info().misses) == (1, 1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    long = KEPT_SLOTS // 2 + 1
    prefill(lm, np.zeros((2, 1), np.int32), rows([1, 1], 1), parse("causal"), room=long, chunk=1)
    assert _kept_plan.cache_info().misses == 2


def test_slots_that_the_caller_changes_later_do_not_reach_what_is_kept(lm):
    # Aligned, as a device that shares the host's memory may use such arrays in place.
    room = np.zeros(5 * 32 + 16, np.int32)
    start = -room.ctypes.data // 4 % 16
    slots = Slots(*room[start : start + 5 * 32].reshape(5, 2, 16))
    for place, field in zip(slots, BASE["slots"], strict=True):
        place[:] = field
    _kept_plan.cache_clear()
    expected = jax.tree.map(np.array, read(lm, slots=slots, mask=DENSE))
    room[:] = 0
    jax.tree.map(np.testing.assert_array_equal, read(lm, mask=DENSE), expected)


def test_a_plan_kept_inside_a_trace_serves_outside_of_it(lm):
    _kept_plan.cache_clear()
    inside = jax.jit(lambda: read(lm).hidden)()
    np.testing.assert_allclose(inside, read(lm).hidden, atol=1e-5)


def test_equal_decoders_share_a_skeleton_and_others_do_not(lm):
    twin, other = random_model(windows=(None, 4), seed=1), random_model(windows=(None, None))
    assert skeleton(lm.graph) is skeleton(lm.graph)
    assert skeleton(lm.graph) == skeleton(twin.graph)
    assert hash(skeleton(lm.graph)) == hash(skeleton(twin.graph))
    assert skeleton(lm.graph) != skeleton(other.graph)
    assert np.abs(np.asarray(read(lm).hidden - read(twin).hidden)).max() > 1e-3


@pytest.mark.parametrize("mask", ["causal", "prefix_lm & window(6)"])
def test_pieces_fill_the_cache_as_one_pass_does(lm, mask):
    whole, pieces = read(lm, mask=mask), read(lm, mask=mask, chunk=4)
    real = BASE["slots"].segment > 0
    np.testing.assert_allclose(whole.hidden[real], pieces.hidden[real], atol=3e-5)
    jax.tree.map(np.testing.assert_array_equal, whole.cache.slots, pieces.cache.slots)
    for one, other in zip(whole.cache.layers, pieces.cache.layers, strict=True):
        assert one.k.shape == (2, 20, 2, 8)
        assert not one.k[:, 16:].any()
        np.testing.assert_allclose(one.k[:, :16][real], other.k[:, :16][real], atol=3e-5)
        np.testing.assert_allclose(one.v[:, :16][real], other.v[:, :16][real], atol=3e-5)
