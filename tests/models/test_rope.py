"""Rotary tables equal transformers'; the rotation keeps lengths and depends on distances only."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.models.config import QueryScale, RopeConfig
from jaxablate.models.rope import attention_factor, inverse_frequencies, rotate, rotation
from tests.tiny import YARN

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
MINISTRAL = {**YARN, "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384}

CASES = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
    "llama3.1": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3},
    "llama3.2": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3, "factor": 32.0},
    "ministral": {**MINISTRAL, "beta_fast": 32.0},
    "devstral": {**MINISTRAL, "beta_fast": 4.0, "mscale_all_dim": 0.0, "factor": 64.0},
    "mscales differ": {**MINISTRAL, "mscale": 0.7},
    "one mscale only": {**MINISTRAL, "mscale": 0.7, "mscale_all_dim": 0.0},
    "ramp beyond the last pair": {**MINISTRAL, "rope_theta": 1000.0, "beta_fast": 16.0},
    "not truncated": {**MINISTRAL, "truncate": False},
    "given factor": {**MINISTRAL, "attention_factor": 1.25},
    "one step ramp": {**MINISTRAL, "beta_fast": 1.0, "truncate": False},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("head_dim", [80, 128])
def test_frequencies_and_factor_equal_transformers(name, head_dim):
    pytest.importorskip("transformers")
    from transformers import Ministral3Config
    from transformers.models.ministral3.modeling_ministral3 import Ministral3RotaryEmbedding

    from jaxablate.models.hf_rope import read_rope

    parameters = dict(CASES[name])
    config = Ministral3Config(head_dim=head_dim, rope_parameters=dict(parameters))
    theirs = Ministral3RotaryEmbedding(config)
    extra = frozenset({"llama_4_scaling_beta"})
    rope = read_rope(parameters, max_position_embeddings=262144, extra=extra)
    wanted = theirs.inv_freq.numpy()
    got = inverse_frequencies(rope, head_dim)
    assert got.dtype == np.float32
    # Their powers are at most one rounding away from the nearest float32.
    np.testing.assert_allclose(got, wanted, rtol=2.5e-7, atol=0)
    assert np.mean(got == wanted) > 0.9
    assert attention_factor(rope) == pytest.approx(theirs.attention_scaling, rel=1e-12)


def turned(x, positions, dtype="float32", **keywords):
    tables = rotation(
        jnp.asarray(positions, jnp.int32)[None],
        rope=RopeConfig(**keywords),
        head_dim=x.shape[-1],
        query_scale=None,
        dtype=dtype,
    )
    return rotate(jnp.asarray(x), tables.cos, tables.sin)


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, 4000), second=st.integers(0, 4000), shift=st.integers(0, 4000))
def test_products_depend_on_the_distance_only(first, second, shift):
    x, y = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 16)).astype(np.float32)
    one = jnp.sum(turned(x, [first]) * turned(y, [second]))
    other = jnp.sum(turned(x, [first + shift]) * turned(y, [second + shift]))
    # Angles up to 8000 radians carry an error of 5e-4 in float32.
    np.testing.assert_allclose(one, other, atol=2e-2)


def test_position_zero_is_not_turned():
    x = np.random.default_rng(0).normal(size=(1, 1, 3, 8)).astype(np.float32)
    np.testing.assert_array_equal(turned(x, [0]), x)


def test_first_half_turns_against_the_second_half():
    x = jnp.zeros((1, 1, 1, 4)).at[..., 0].set(1.0)
    got = turned(x, [1], theta=100.0)[0, 0, 0]
    np.testing.assert_allclose(got, [np.cos(1), 0, np.sin(1), 0], atol=1e-7)


def test_queries_grow_in_steps_of_the_original_context():
    scale = QueryScale(beta=0.5, original_max_position_embeddings=4)
    tables = rotation(
        jnp.asarray([[0, 3, 4, 7, 8, 40]]),
        rope=RopeConfig(),
        head_dim=4,
        query_scale=scale,
        dtype="float32",
    )
    wanted = 1 + 0.5 * np.log([1, 1, 2, 2, 3, 11])
    np.testing.assert_allclose(tables.query_scale[0, :, 0, 0], wanted, rtol=1e-6)


def test_tables_are_rounded_once_from_float32():
    positions = [0, 17, 4097]
    x = jnp.ones((1, 3, 1, 8), jnp.float32)
    exact = turned(x, positions)
    rounded = turned(x.astype(jnp.bfloat16), positions, dtype="bfloat16")
    # Angles kept in bfloat16 would be wrong by radians at 4097; one rounding is 2 in 2^8.
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=2 / 2**7)
