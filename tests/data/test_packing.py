"""A packed row trains as its examples alone do, leaks no more, and wastes almost no slot."""

import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import jaxablate.masks as masks
from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role
from jaxablate.data.batch import Example, collate, counts, target_slots
from jaxablate.data.packing import best_fit
from jaxablate.data.records import Record
from jaxablate.data.sft import encode
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.engine.plan import plan_mask, without_cache
from jaxablate.masks.leak import LeakError, leak_report, require_no_leak
from tests.data.tokens import byte_bpe, save
from tests.engine.models import VOCAB, random_model

ALPACA = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca" / "train.jsonl.gz"
SIZES = [(7, 4), (3, 1), (9, 6), (2, 1), (5, 2)]  # length, prompt length


def example(length, prompt_length, seed=0):
    tokens = np.random.default_rng(seed).integers(0, VOCAB, length, dtype=np.int32)
    return Example(f"{seed}", tokens, prompt_length)


EXAMPLES = [example(*size, seed) for seed, size in enumerate(SIZES)]


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(40, 64), st.integers(0, 5))
def test_rows_hold_every_example_once_within_the_width(lengths, width, seed):
    order = np.random.default_rng(seed).permutation(len(lengths))
    rows = best_fit(lengths, width, order=order)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= width for row in rows)
    # No two rows could be one: each was opened because nothing before had room for its first.
    fills = sorted(sum(lengths[index] for index in row) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > width


def best_fit_by_search(lengths, width):
    rows, free = [], []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [row for row in range(len(rows)) if free[row] >= lengths[index]]
        if not fitting:
            rows.append([])
            free.append(width)
        row = min(fitting, key=lambda r: free[r], default=len(rows) - 1)
        rows[row].append(index)
        free[row] -= lengths[index]
    return sorted(free)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(30, 50))
def test_each_example_goes_into_the_fullest_row_with_room(lengths, width):
    rows = best_fit(lengths, width)
    free = sorted(width - sum(lengths[index] for index in row) for row in rows)
    assert free == best_fit_by_search(lengths, width)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(0, 9))
def test_the_lengths_of_rows_do_not_depend_on_the_order(lengths, seed):
    order = np.random.default_rng(seed).permutation(len(lengths))

    def shapes(rows):
        return [[lengths[index] for index in row] for row in rows]

    assert shapes(best_fit(lengths, 16, order=order)) == shapes(best_fit(lengths, 16))


@pytest.mark.parametrize("length", [0, 9])
def test_an_example_that_fits_no_row_is_refused(length):
    with pytest.raises(UserError, match=r"within 1\.\.8"):
        best_fit([3, length], 8)


def test_slots_of_a_packed_row():
    batch = collate([[EXAMPLES[1], EXAMPLES[4]], []], 10, pad_id=96)
    p, r = int(Role.PROMPT), int(Role.RESPONSE)
    assert batch.slots.segment.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2, 0, 0], [0] * 10]
    assert batch.slots.position.tolist()[0] == [0, 1, 2, 0, 1, 2, 3, 4, 0, 0]
    assert batch.slots.role.tolist()[0] == [p, r, r, p, p, r, r, r, 0, 0]
    assert batch.slots.part.tolist()[0] == [1, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert batch.loss_mask.astype(int).tolist()[0] == [1, 1, 0, 0, 1, 1, 1, 0, 0, 0]
    a, b = EXAMPLES[1].tokens.tolist(), EXAMPLES[4].tokens.tolist()
    assert batch.tokens.tolist()[0] == [*a, *b, 96, 96]
    assert batch.targets.tolist()[0] == [*a[1:], 0, *b[1:], 0, 0, 0]
    assert counts(batch) == {"slots": 20, "tokens": 8, "targets": 5, "examples": 2}


@pytest.mark.parametrize(("length", "prompt_length"), [(3, 0), (3, 3), (1, 1)])
def test_an_example_needs_a_prompt_and_a_response(length, prompt_length):
    with pytest.raises(UserError, match="at least one token each"):
        collate([[example(length, prompt_length)]], 8)


def test_examples_longer_than_their_row_are_refused():
    with pytest.raises(UserError, match="16 tokens do not fit in a row of 15"):
        collate([[EXAMPLES[0], EXAMPLES[2]]], 15)


def loss_and_gradients(lm, batch, mask):
    """Summed cross entropy of the supervised targets, and its gradient in every weight."""
    graph, state = lm.graph, lm.params
    plan = plan_mask(mask, batch.slots, batch.slots, lm.config)

    def loss(state):
        decoder = nnx.merge(graph, state)
        out = decoder(
            jnp.asarray(batch.tokens),
            positions_BT=jnp.asarray(batch.slots.position),
            attend=without_cache(plan),
        )
        logprobs = jax.nn.log_softmax(decoder.unembed(out.hidden))
        taken = jnp.take_along_axis(logprobs, jnp.asarray(batch.targets)[..., None], -1)[..., 0]
        return -jnp.sum(taken * jnp.asarray(batch.loss_mask))

    return jax.jit(jax.value_and_grad(loss))(state)


@pytest.mark.parametrize("name", ["causal", "prefix_lm"])
def test_packed_loss_and_gradients_equal_those_of_the_examples_alone(name):
    lm, mask = random_model(), masks.parse(name)
    rows = best_fit([len(e.tokens) for e in EXAMPLES], 16)
    packed = collate([[EXAMPLES[index] for index in row] for row in rows], 16)
    alone = collate([[e] for e in EXAMPLES], 16)
    assert len(packed.tokens) < len(alone.tokens)
    value, gradient = loss_and_gradients(lm, packed, mask)
    wanted, wanted_gradient = loss_and_gradients(lm, alone, mask)
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted_gradient), strict=True)
    for ours, theirs in pairs:
        scale = float(jnp.abs(theirs).max())
        assert scale > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * scale)


def test_targets_of_the_guard_are_the_slots_that_hold_them():
    batch = collate([EXAMPLES[:2], EXAMPLES[2:]], 20)
    slots = target_slots(batch)
    held = np.take_along_axis(batch.tokens, np.maximum(slots, 0), axis=1)
    np.testing.assert_array_equal(held[batch.loss_mask], batch.targets[batch.loss_mask])
    np.testing.assert_array_equal(slots >= 0, batch.loss_mask)


def test_the_guard_passes_packed_rows_and_refuses_full_bidirectional():
    batch = collate([EXAMPLES[:2], EXAMPLES[2:]], 20)
    for name in ("causal", "prefix_lm"):
        assert not leak_report([masks.parse(name)] * 3, batch.slots, target_slots(batch)).leaks
    leaky = [masks.parse("full_bidirectional")] * 3
    with pytest.raises(LeakError, match="can see its own target"):
        require_no_leak(leaky, batch.slots, target_slots(batch))


@pytest.mark.skipif(not ALPACA.is_file(), reason="needs the shared Alpaca rows")
def test_alpaca_rows_fill_more_than_95_percent_of_1024_slots(tmp_path):
    with gzip.open(ALPACA, "rt") as file:
        table = [json.loads(line) for line, _ in zip(file, range(1500), strict=False)]
    records = [
        Record(str(n), row["instruction"], row["input"], row["output"])
        for n, row in enumerate(table)
        if row["output"]
    ]
    tokenizer = Tokenizer.load(save(tmp_path, byte_bpe()))
    examples = encode(records, tokenizer, max_length=1024).examples
    rows = best_fit([len(e.tokens) for e in examples], 1024)
    batch = collate([[examples[index] for index in row] for row in rows], 1024)
    found = counts(batch)
    assert found["examples"] == len(examples)
    assert found["tokens"] / found["slots"] > 0.95
    assert not leak_report([masks.parse("prefix_lm")], batch.slots, target_slots(batch)).leaks
