"""Attention weights are those of transformers, sum to 1, and are zero where the mask forbids."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxablate
from jaxablate.core.errors import UserError
from jaxablate.core.slots import rows
from jaxablate.kernels import reference
from jaxablate.masks import parse
from jaxablate.probes.attention import attention_weights, share_ahead, strongest_heads
from tests.engine.models import random_model
from tests.tiny import save_tiny

TOKENS = [7, 80, 3, 41, 9, 66, 2, 30, 55]


@pytest.fixture(scope="module")
def lm():
    return random_model()


@pytest.mark.parametrize("family", ["ministral3", "mistral", "qwen3"])
def test_weights_are_those_of_transformers(family, tmp_path):
    import torch

    _, model = save_tiny(family, tmp_path)
    ids = np.random.default_rng(0).integers(0, 131, 20)
    with torch.no_grad():
        out = model(torch.from_numpy(ids)[None], output_attentions=True)
    wanted = np.stack([layer[0].numpy() for layer in out.attentions])
    found = attention_weights(jaxablate.load(tmp_path), ids.tolist(), "causal")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["causal", "prefix_lm", "heads(1) & prefix_lm | causal", "layers(2) & gist | causal"]
)
def test_each_line_sums_to_one_and_is_open_exactly_where_the_mask_is(lm, text):
    found = attention_weights(lm, TOKENS, text, prompt_length=5)
    mask, slots = parse(text), rows([9], 9, [5])
    for layer, head in np.ndindex(*found.shape[:2]):
        is_open = mask.materialise(slots, slots, layer=layer, head=head)[0]
        np.testing.assert_array_equal(found[layer, head] > 0, is_open)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)


def test_a_query_that_sees_nothing_attends_to_nothing(lm):
    found = attention_weights(lm, TOKENS, "causal & ~window(1)")
    assert found[:, :, 0].sum() == 0
    np.testing.assert_allclose(found[:, :, 1:].sum(axis=-1), 1, rtol=1e-5)


def test_chosen_layers_come_in_the_order_asked_for(lm):
    every = attention_weights(lm, TOKENS, "prefix_lm")
    some = attention_weights(lm, TOKENS, "prefix_lm", layers=[2, 0])
    np.testing.assert_array_equal(some, every[[2, 0]])


def test_both_layouts_and_the_models_own_windows(lm):
    windows = (3, None, 2)
    loop, scan = (
        attention_weights(random_model(layout=layout, windows=windows), TOKENS, "causal")
        for layout in ("loop", "scan")
    )
    np.testing.assert_allclose(loop, scan, atol=1e-6)
    assert [int((table[0, 8] > 0).sum()) for table in loop] == [3, 9, 2]


def test_the_weights_times_the_values_are_what_the_kernel_gives():
    random = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(random.normal(size=(2, 5, heads, 8)), jnp.float32) for heads in (4, 2, 2)
    )
    visible = jnp.tril(jnp.ones((2, 5, 5), bool))
    weights = reference.attention_weights(q, k, visible[:, None, None], scale=0.3)
    by_hand = jnp.einsum("bnts,bsnh->btnh", weights.reshape(2, 4, 5, 5), jnp.repeat(v, 2, axis=2))
    found = reference.softmax_attention(q, k, v, visible, scale=0.3)
    np.testing.assert_allclose(found, by_hand, rtol=1e-5, atol=1e-6)


def test_the_share_ahead_is_zero_iff_nobody_looks_ahead(lm):
    assert (share_ahead(attention_weights(lm, TOKENS, "causal")) == 0).all()
    tables = np.array([[[[0.25, 0.75], [0.5, 0.5]]]], np.float32)
    assert share_ahead(tables).tolist() == [[0.375]]


def test_the_strongest_heads_are_found():
    weights = np.zeros((2, 3, 4, 4), np.float32)
    weights[1, 2, 3, 0], weights[0, 1, 3, 0], weights[0, 0, 0, 3] = 0.5, 0.25, 0.9
    assert strongest_heads(weights, query=3, key=0) == [(1, 2), (0, 1)]
    assert strongest_heads(weights, query=-1, key=0, count=1) == [(1, 2)]


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([], {}, "one row of tokens"),
        ([1, 2], {"layers": [3]}, "layers must be some of 0..2"),
        ([1, 2], {"layers": []}, "layers must be some of 0..2"),
        ([1, 2], {"prompt_length": 3}, "prompt_length"),
    ],
)
def test_what_has_no_weights_is_refused(lm, tokens, options, message):
    with pytest.raises(UserError, match=message):
        attention_weights(lm, tokens, "causal", **options)
