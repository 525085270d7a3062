"""A model's own window joined with a mask, against the inequalities of each policy."""

import numpy as np
import pytest
from hypothesis import given, settings

from jaxablate.core.errors import UserError
from jaxablate.masks import parse
from jaxablate.masks.draw import read_layout
from jaxablate.masks.window import POLICIES, never_looks_ahead, with_window
from tests.masks.strategies import layouts, masks

SLOTS = read_layout("P5 R4")
BACK = SLOTS.position[:, :, None] - SLOTS.position[:, None, :]


@pytest.mark.parametrize(
    ("mask", "policy", "near"),
    [
        ("prefix_lm", "causal_side", BACK < 3),
        ("prefix_lm", "both_sides", abs(BACK) < 3),
        ("prefix_lm", "hf", abs(BACK) <= 3),
        ("causal", "hf", BACK < 3),
        ("gist", "hf", BACK < 3),
        ("prefix_lm", "drop", BACK < 99),
        ("causal", "both_sides", BACK < 3),
    ],
)
def test_policy_is_its_inequality(mask, policy, near):
    mask = parse(mask)
    expected = mask.materialise(SLOTS, SLOTS) & near
    found = with_window(mask, 3, policy).materialise(SLOTS, SLOTS)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_layer_without_window_keeps_the_mask(policy):
    assert with_window(parse("prefix_lm"), None, policy) == parse("prefix_lm")


def test_on_causal_masks_three_policies_agree():
    windowed = [with_window(parse("causal"), 3, policy) for policy in POLICIES[:3]]
    arrays = [mask.materialise(SLOTS, SLOTS) for mask in windowed]
    assert all(np.array_equal(array, arrays[0]) for array in arrays)
    assert str(windowed[0]) == "causal & window(3)"


def test_unknown_policy_names_the_known():
    with pytest.raises(UserError, match=r"causal_side.*did you mean 'both_sides'"):
        with_window(parse("causal"), 3, "bothsides")


@settings(max_examples=150, deadline=None)
@given(masks, layouts)
def test_never_looks_ahead_is_sound(mask, slots):
    ahead = slots.position[:, None, :] > slots.position[:, :, None]
    if never_looks_ahead(mask):
        assert not (mask.materialise(slots, slots) & ahead).any()


@pytest.mark.parametrize(
    ("mask", "looks_back"),
    [
        ("causal", True),
        ("window(3, 0)", True),
        ("nothing", True),
        ("causal & (to(prompt) | chunk(2))", True),
        ("causal & sink(1) | window(2, 0)", True),
        ("~(~causal | to(prompt))", True),
        ("~(window(3) & ~causal)", True),
        ("~(window(3, 9) & ~causal)", False),
        ("causal | within(prompt)", False),
        ("window(3)", False),
        ("layers(0) & same_segment", False),
    ],
)
def test_never_looks_ahead_by_example(mask, looks_back):
    assert never_looks_ahead(parse(mask)) == looks_back
