"""The measured probe fires on masks that leak, is silent on those that do not, and can be fooled
by neither: it changes tokens and reads logits of the compiled program."""

import pytest

from jaxablate.core.errors import UserError
from jaxablate.masks.parse import parse
from jaxablate.probes.leakage import measure
from tests.engine.models import random_model


@pytest.fixture(scope="module")
def lm():
    return random_model(windows=(None, None))


@pytest.mark.parametrize("mask", ["causal", "prefix_lm", "sliding_window(4)"])
def test_a_mask_that_does_not_leak_moves_no_bit_and_decodes_as_it_was_read(lm, mask):
    found = measure(lm, parse(mask), num_rows=2, response_length=5)
    assert found["future_change"] == 0.0
    assert not found["leaks"]
    assert not found["static"]["leaky"]
    assert found["teacher_forced_loss"] == pytest.approx(found["decode_loss"], abs=1e-4)


@pytest.mark.parametrize(
    "mask", ["full_bidirectional", "causal | window(1,1)", "causal | (same_segment & layers(1))"]
)
def test_a_mask_that_leaks_is_seen_by_the_probe_and_by_the_guard(lm, mask):
    found = measure(lm, parse(mask), num_rows=2, response_length=5)
    assert found["leaks"]
    assert found["future_change"] > 1e-3
    assert found["static"]["leaky"]
    assert abs(found["teacher_forced_loss"] - found["decode_loss"]) > 1e-3


def test_the_prompt_moves_with_its_last_token_iff_the_mask_lets_it(lm):
    change = {
        mask: measure(lm, parse(mask), num_rows=2, response_length=2)["prompt_change"]
        for mask in ("causal", "prefix_lm", "full_bidirectional")
    }
    assert change["causal"] == 0.0
    assert change["prefix_lm"] == change["full_bidirectional"] > 1e-3


def test_the_probe_is_a_function_of_its_seed(lm):
    first, again, other = (
        measure(lm, parse("prefix_lm"), num_rows=2, response_length=2, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["decode_loss"] != other["decode_loss"]


def test_sizes_that_measure_nothing_are_refused(lm):
    with pytest.raises(UserError, match="prompt_length >= 2"):
        measure(lm, parse("causal"), prompt_length=1)
