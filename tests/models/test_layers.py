"""Layers do what their formulas say, in the precision that they promise."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxablate.models.layers import Embedding, Linear, RMSNorm, SwiGLU, logits


def normal(*shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def test_norm_is_computed_in_float32_and_rounded_before_the_weight():
    norm = RMSNorm(64, eps=1e-5, dtype="bfloat16")
    norm.weight.set_value(normal(64, dtype=jnp.bfloat16, seed=1))
    x = 300 * normal(2, 3, 64, dtype=jnp.bfloat16)  # the square of 300 loses a bfloat16 sum
    wide = np.asarray(x, np.float64)
    normed = wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + 1e-5)
    wanted = jnp.asarray(normed, jnp.bfloat16) * norm.weight[...][None, None]
    assert norm(x).dtype == jnp.bfloat16
    assert np.mean(np.asarray(norm(x) == wanted)) > 0.98  # float64 and float32 round alike


def test_linear_is_a_product_with_the_transposed_weight():
    layer = Linear(5, 3, bias=True, dtype="float32", rngs=nnx.Rngs(0))
    layer.bias.set_value(normal(3))
    x = normal(2, 4, 5)
    wanted = np.asarray(x) @ np.asarray(layer.weight[...]).T + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(x), wanted, atol=1e-6)


def test_swiglu_follows_its_formula():
    mlp = SwiGLU(4, 6, bias=False, dtype="float32", rngs=nnx.Rngs(0))
    x = 5 * normal(1, 2, 4)
    gate, up, down = (np.asarray(layer.weight[...]) for layer in (mlp.gate, mlp.up, mlp.down))
    a = np.asarray(x) @ gate.T
    wanted = (a / (1 + np.exp(-a)) * (np.asarray(x) @ up.T)) @ down.T
    np.testing.assert_allclose(mlp(x), wanted, atol=1e-7)


def test_token_outside_the_vocabulary_is_not_taken_for_another():
    table = Embedding(7, 2, dtype="float32", rngs=nnx.Rngs(0))
    vectors = table(jnp.asarray([[0, 6, 7]]))
    assert not jnp.isnan(vectors[0, :2]).any()
    assert jnp.isnan(vectors[0, 2]).all()


def test_logits_of_bfloat16_are_accumulated_in_float32():
    hidden, weight = normal(2, 3, 256, dtype=jnp.bfloat16), normal(5, 256, dtype=jnp.bfloat16)
    wanted = np.asarray(hidden, np.float64) @ np.asarray(weight, np.float64).T
    got = logits(hidden, weight)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_gradient_of_logits_is_exact_in_float32_and_rounded_in_bfloat16():
    def loss(hidden, weight):
        return jnp.sum(jax.nn.log_softmax(logits(hidden, weight))[..., 0])

    def plain(hidden, weight):
        return jnp.sum(jax.nn.log_softmax(hidden @ weight.T)[..., 0])

    hidden, weight = normal(2, 3, 16), normal(5, 16, seed=1)
    wanted = jax.grad(plain, (0, 1))(hidden, weight)
    for got, right in zip(jax.grad(loss, (0, 1))(hidden, weight), wanted, strict=True):
        np.testing.assert_allclose(got, right, atol=1e-5)
    half = jax.grad(loss, (0, 1))(hidden.astype(jnp.bfloat16), weight.astype(jnp.bfloat16))
    for got, right in zip(half, wanted, strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), right, atol=0.1)
    text = str(jax.make_jaxpr(jax.grad(loss))(*(x.astype(jnp.bfloat16) for x in (hidden, weight))))
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert "f32[" in products[0]  # forward
    assert all("bf16[" in line for line in products[1:])  # backward
