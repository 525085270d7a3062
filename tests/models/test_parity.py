"""Logits and hidden states equal transformers' float32 eager ones, family by family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import reference
from tests.tiny import FAMILIES, YARN, tiny_hf

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# A float32 sum over 32 to 48 terms in another order, through 3 layers; the worst seen is 4e-6.
EXACT = 2e-5

REAL = np.arange(reference.T) < np.asarray(reference.LENGTHS)[:, None]

VARIANTS = {
    **{family: (family, {}) for family in FAMILIES},
    "llama-tied-llama3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": ("llama", {"head_dim": 20, "num_key_value_heads": 1}),
    "llama-linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}},
    ),
    "mistral-no-window": ("mistral", {"sliding_window": None, "num_key_value_heads": 4}),
    "ministral3-mscale": (
        "ministral3",
        {"rope_parameters": {**YARN, "mscale_all_dim": 0.0}, "tie_word_embeddings": False},
    ),
    "ministral3-window": ("ministral3", {"sliding_window": 6}),
    "qwen2-untied-full": ("qwen2", {"use_sliding_window": False, "tie_word_embeddings": False}),
    "qwen3-windows": (
        "qwen3",
        {
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen3-biases": ("qwen3", {"attention_bias": True}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request):
    family, overrides = VARIANTS[request.param]
    config, model = tiny_hf(family, **overrides)
    return model, reference.ours(model, config.to_dict())


def run(decoder, rows, positions, mask):
    attend = reference.dense_attend(mask)
    out = decoder(rows, positions_BT=positions, attend=attend, collect=True)
    return decoder.unembed(out.hidden), out.states


def forward(decoder, rows, mask, positions=None):
    if positions is None:
        positions = reference.positions(rows.shape[1], rows=len(rows))
    return run(decoder, *map(jnp.asarray, (rows, positions, mask)))


def test_logits_and_states_equal_transformers_under_every_mask(pair):
    model, decoder = pair
    drawn = reference.masks()
    rows = np.tile(reference.tokens(decoder.config.vocab_size), (len(drawn), 1))
    mask = reference.with_windows(np.concatenate(list(drawn.values())), decoder.config)
    logits, states = forward(decoder, rows, mask)
    wanted, wanted_states = reference.hf_outputs(model, rows, mask)
    assert logits.dtype == jnp.float32
    # A padding query may see nothing; transformers then takes the mean of all values.
    real = np.tile(REAL, (len(drawn), 1))
    np.testing.assert_allclose(logits[real], wanted[real], atol=EXACT, rtol=0)
    got = [*states[:-2], states[-1]]  # transformers leaves the last layer's raw output out
    for ours, theirs in zip(got, wanted_states, strict=True):
        np.testing.assert_allclose(ours[real], theirs[real], atol=EXACT, rtol=0)


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
def test_own_causal_mask_of_transformers_is_causal_and_the_windows(family):
    import torch

    config, model = tiny_hf(family)
    decoder = reference.ours(model, config.to_dict())
    rows = reference.tokens(decoder.config.vocab_size)
    mask = reference.with_windows(reference.masks()["causal"], decoder.config)
    with torch.no_grad():
        wanted = model(torch.tensor(rows)).logits.numpy()
    np.testing.assert_allclose(forward(decoder, rows, mask)[0], wanted, atol=EXACT, rtol=0)


def test_query_scale_and_yarn_hold_far_beyond_the_original_context():
    config, model = tiny_hf("ministral3")
    decoder = reference.ours(model, config.to_dict())
    rows = reference.tokens(config.vocab_size, length=64)
    mask = np.broadcast_to(np.tri(64, dtype=bool), (3, len(rows), 64, 64))
    wanted, _ = reference.hf_outputs(model, rows, mask)
    np.testing.assert_allclose(forward(decoder, rows, mask)[0], wanted, atol=EXACT, rtol=0)
    assert decoder.config.query_scale.original_max_position_embeddings == 16


def test_positions_need_not_start_at_zero():
    import torch

    config, model = tiny_hf("ministral3")
    decoder = reference.ours(model, config.to_dict())
    rows = reference.tokens(config.vocab_size)
    positions = reference.positions(start=200)
    mask = np.broadcast_to(reference.masks()["causal"], (3, 3, reference.T, reference.T))
    with torch.no_grad():
        given = torch.tensor(positions, dtype=torch.long)
        wanted = model(torch.tensor(rows), position_ids=given).logits.numpy()
    got = forward(decoder, rows, mask, positions)[0]
    np.testing.assert_allclose(got, wanted, atol=EXACT, rtol=0)


@pytest.mark.parametrize("name", ["ministral3", "qwen3-windows"])
def test_scan_computes_what_the_loop_computes(name):
    family, overrides = VARIANTS[name]
    config, model = tiny_hf(family, **overrides)
    decoder = reference.ours(model, config.to_dict())
    stacked = reference.ours(model, config.to_dict(), layout="scan")
    rows = reference.tokens(decoder.config.vocab_size)
    mask = reference.with_windows(reference.masks()["prefix_lm"], decoder.config)
    for loop, scan in zip(forward(decoder, rows, mask), forward(stacked, rows, mask), strict=True):
        np.testing.assert_allclose(scan, loop, atol=EXACT, rtol=0)


@pytest.mark.parametrize("family", ["llama", "ministral3", "qwen3"])
def test_bfloat16_is_as_close_to_float32_as_transformers_bfloat16_is(family):
    # Both round after every product. Neither is the truth, so float32 is the yardstick.
    import torch

    config, model = tiny_hf(family)
    rows = reference.tokens(config.vocab_size)
    decoder = reference.ours(model, config.to_dict(), dtype="bfloat16")
    mask = reference.with_windows(reference.masks()["prefix_lm"], decoder.config)
    truth, _ = reference.hf_outputs(model, rows, mask)
    half, _ = reference.hf_outputs(model.to(torch.bfloat16), rows, mask)
    got, states = forward(decoder, rows, mask)
    assert states.dtype == jnp.bfloat16
    assert got.dtype == jnp.float32
    ours_off = np.abs(got - truth)[REAL].mean()
    theirs_off = np.abs(half - truth)[REAL].mean()
    assert ours_off < 1.5 * theirs_off
    assert theirs_off > 1e-4  # the comparison is not vacuous


@pytest.mark.parametrize(("layout", "remat"), [("loop", "dots"), ("scan", "full")])
def test_remat_changes_neither_value_nor_gradient(layout, remat):
    config, model = tiny_hf("llama", num_hidden_layers=1)
    decoder = reference.ours(model, config.to_dict(), layout=layout)
    rows = jnp.asarray(reference.tokens(config.vocab_size))
    mask = jnp.asarray(reference.with_windows(reference.masks()["padded"], decoder.config))

    def loss(decoder, remat):
        attend = reference.dense_attend(mask)
        positions = jnp.asarray(reference.positions())
        out = decoder(rows, positions_BT=positions, attend=attend, remat=remat)
        return jnp.mean(jax.nn.log_softmax(decoder.unembed(out.hidden))[..., 0])

    @nnx.jit
    def gradients(decoder):
        return [nnx.value_and_grad(loss)(decoder, kept) for kept in ("none", remat)]

    for one, other in zip(*map(jax.tree.leaves, gradients(decoder)), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6, rtol=1e-4)
