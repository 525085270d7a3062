"""Generation is prefill under the mask, then decoding under the same mask through the cache."""

import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.slots import rows
from jaxablate.engine.generate import decode_logprobs, generate
from jaxablate.engine.plan import MaskStructure
from jaxablate.engine.prefill import chunk_bounds
from jaxablate.masks.parse import parse
from tests.engine.models import VOCAB, random_model

MASKS = ("causal", "prefix_lm", "sliding_window(5)", "prefix_lm & window(6)")


@pytest.fixture(scope="module")
def lm():
    return random_model(windows=(None, None))


def make_prompts(lengths=(9, 1, 23, 14), seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCAB, length).tolist() for length in lengths]


def one_pass_greedy(lm, prompt, mask, count, prompt_length=None):
    """Each next token from a fresh pass over everything so far: no cache and no batch."""
    row = np.zeros((1, 32), np.int64)
    row[0, : len(prompt)] = prompt
    size = len(prompt) if prompt_length is None else prompt_length
    for length in range(len(prompt), len(prompt) + count):
        logits = lm.logits(row, [length], mask=mask, prompt_lengths=[size], kernel="reference")
        row[0, length] = int(np.argmax(logits[0, length - 1]))
    return row[0, len(prompt) : len(prompt) + count].tolist()


@pytest.mark.parametrize("mask", MASKS)
def test_batched_cached_generation_equals_one_pass_a_token(lm, mask):
    prompts = make_prompts()
    found = generate(lm, prompts, parse(mask), max_new_tokens=7)
    assert found == [one_pass_greedy(lm, prompt, mask, 7) for prompt in prompts]


@pytest.mark.parametrize(
    ("mask", "chunk"),
    [("causal", 4), ("prefix_lm & window(6)", 4), ("prefix_lm & window(6)", 100)],
)
def test_chunked_prefill_equals_one_pass_under_any_mask(lm, mask, chunk):
    prompts = make_prompts()
    whole = generate(lm, prompts, parse(mask), max_new_tokens=5)
    assert generate(lm, prompts, parse(mask), max_new_tokens=5, chunk=chunk) == whole


def test_a_chunk_never_ends_where_a_slot_still_waits_for_a_later_one(lm):
    slots = rows([10], 10, [6])
    bounds = {
        mask: chunk_bounds(MaskStructure.of(parse(mask), lm.config, "drop"), slots, 2)
        for mask in ("causal", "prefix_lm", "full_bidirectional")
    }
    assert bounds["causal"] == [0, 2, 4, 6, 8, 10]
    assert bounds["prefix_lm"] == [0, 6, 8, 10]
    assert bounds["full_bidirectional"] == [0, 10]


def test_full_bidirectional_prefill_leaves_decoding_causal(lm):
    prompts = make_prompts()
    full = generate(lm, prompts, parse("full_bidirectional"), max_new_tokens=6)
    assert full == generate(lm, prompts, parse("prefix_lm"), max_new_tokens=6)
    # Also in pieces, of which a bidirectional prompt is one.
    assert full == generate(lm, prompts, parse("full_bidirectional"), max_new_tokens=6, chunk=4)


def test_a_bidirectional_prompt_changes_what_is_said_but_a_one_token_prompt_cannot(lm):
    prompts = make_prompts((23, 1))
    causal, prefix = (
        generate(lm, prompts, parse(mask), max_new_tokens=8) for mask in ("causal", "prefix_lm")
    )
    assert causal[0] != prefix[0]
    assert causal[1] == prefix[1]


def test_what_was_already_said_stays_causal(lm):
    prompt = make_prompts((20,))[0]
    found = generate(lm, [prompt], parse("prefix_lm"), prompt_lengths=[8], max_new_tokens=5)
    assert found == [one_pass_greedy(lm, prompt, "prefix_lm", 5, prompt_length=8)]
    assert found != generate(lm, [prompt], parse("prefix_lm"), max_new_tokens=5)


def test_generation_stops_at_its_stop_token_and_does_not_give_it_back(lm):
    prompts = make_prompts()
    free = generate(lm, prompts, parse("causal"), max_new_tokens=12)
    stop = free[2][4]
    stopped = generate(lm, prompts, parse("causal"), max_new_tokens=12, eos_ids=(stop,))
    for long, short in zip(free, stopped, strict=True):
        assert short == (long[: long.index(stop)] if stop in long else long)


@pytest.mark.parametrize("mask", MASKS)
def test_decoding_and_one_pass_agree_on_the_probability_of_a_response(lm, mask):
    random = np.random.default_rng(3)
    lengths = [4, 11]
    prompts, forced = make_prompts(lengths), random.integers(0, VOCAB, (2, 6))
    width = max(lengths)
    tokens = np.zeros((2, width + 6), np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    tokens[:, width:] = forced
    found = decode_logprobs(lm, tokens, lengths, parse(mask))
    pairs = [(tuple(p), tuple(f.tolist())) for p, f in zip(prompts, forced, strict=True)]
    for row, score in enumerate(lm.score(pairs, mask=mask)):
        np.testing.assert_allclose(found[row], score.token_logprobs, atol=3e-5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"prompts": [[]]}, "empty"),
        ({"prompts": [[1]], "max_new_tokens": 0}, "max_new_tokens must be >= 1, got 0"),
        ({"prompts": [[1, 2]], "prompt_lengths": [3]}, r"0\.\.2, got 3"),
        ({"prompts": [[1, 2]], "prompt_lengths": [1, 1]}, "2 prompt lengths for 1"),
        ({"prompts": [[1, 2]], "chunk": 0}, "chunk must be >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(lm, arguments, word):
    with pytest.raises(UserError, match=word):
        generate(lm, arguments.pop("prompts"), parse("causal"), **arguments)
