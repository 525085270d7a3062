"""The parts every decoder is built from: RMSNorm, Linear, Embedding, SwiGLU.

Weights have Hugging Face's layout, (out, in). `stack` is () for one layer's weights, or (L,) for
the weights of L layers in one array.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

_FRESH_STD = 0.02


class DropoutKey(nnx.Variable):
    """The random key of one projection's dropout."""


class LowRank(nnx.Module):
    """What LoRA adds to a projection: scale * dropout(x) A^T B^T (arXiv 2106.09685, section 4.1).

    The factors may be wider than x (float32 beside bfloat16): the products run in x's dtype.
    Without a `key` nothing is dropped.
    """

    def __init__(
        self,
        lora_a: Float[Array, "*stack R in"],
        lora_b: Float[Array, "*stack out R"],
        *,
        scale: float,
        dropout: float = 0.0,
        key: Array | None = None,
    ):
        self.lora_a, self.lora_b = nnx.LoRAParam(lora_a), nnx.LoRAParam(lora_b)
        self.scale, self.dropout = scale, dropout
        self.key = DropoutKey(key) if key is not None and dropout > 0 else None

    def __call__(self, x: Float[Array, "B T in"]) -> Float[Array, "B T out"]:
        """The update alone, in x's dtype."""
        if self.key is not None:
            kept = jax.random.bernoulli(self.key[...], 1 - self.dropout, x.shape)
            x = jnp.where(kept, x / (1 - self.dropout), jnp.zeros_like(x))
        down_BTR = _times_transposed(x, self.lora_a[...].astype(x.dtype))
        return self.scale * _times_transposed(down_BTR, self.lora_b[...].astype(x.dtype))


class Linear(nnx.Module):
    """y = x W^T (+ b) (+ a low-rank update, where one is attached)."""

    def __init__(
        self,
        size_in: int,
        size_out: int,
        *,
        bias: bool,
        dtype: str,
        rngs: nnx.Rngs,
        stack: tuple[int, ...] = (),
    ):
        self.weight = fresh(rngs, (*stack, size_out, size_in), dtype)
        self.bias = nnx.Param(jnp.zeros((*stack, size_out), dtype)) if bias else None
        self.update: LowRank | None = None

    def __call__(self, x: Float[Array, "B T in"]) -> Float[Array, "B T out"]:
        """The product, in the dtype of its operands."""
        y = _times_transposed(x, self.weight[...])
        if self.bias is not None:
            y = y + self.bias[...][None, None, :]  # 1 1 out
        return y if self.update is None else y + self.update(x)


class RMSNorm(nnx.Module):
    """x / rms(x) * weight; the mean square in float32, the product with the weight in x's dtype."""

    def __init__(self, size: int, *, eps: float, dtype: str, stack: tuple[int, ...] = ()):
        self.weight = nnx.Param(jnp.ones((*stack, size), dtype))
        self.eps = eps

    def __call__(self, x: Float[Array, "*axes D"]) -> Float[Array, "*axes D"]:
        """Normalises the last axis."""
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        normed = (wide * lax.rsqrt(mean_square + self.eps)).astype(x.dtype)
        return normed * jnp.expand_dims(self.weight[...], tuple(range(x.ndim - 1)))


class Embedding(nnx.Module):
    """One vector a token."""

    def __init__(self, vocab_size: int, size: int, *, dtype: str, rngs: nnx.Rngs):
        self.weight = fresh(rngs, (vocab_size, size), dtype)

    def __call__(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """The tokens' vectors; NaN for a token outside the vocabulary, never another's."""
        return jnp.take(self.weight[...], tokens_BT, axis=0, mode="fill")


class SwiGLU(nnx.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(
        self,
        size: int,
        size_inner: int,
        *,
        bias: bool,
        dtype: str,
        rngs: nnx.Rngs,
        stack: tuple[int, ...] = (),
    ):
        self.gate = Linear(size, size_inner, bias=bias, dtype=dtype, rngs=rngs, stack=stack)
        self.up = Linear(size, size_inner, bias=bias, dtype=dtype, rngs=rngs, stack=stack)
        self.down = Linear(size_inner, size, bias=bias, dtype=dtype, rngs=rngs, stack=stack)

    def __call__(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """The gated feed-forward of one block."""
        return self.down(jax.nn.silu(self.gate(x_BTD)) * self.up(x_BTD))


@jax.custom_vjp
def logits(
    hidden: Float[Array, "*axes D"], weight_VD: Float[Array, "V D"]
) -> Float[Array, "*axes V"]:
    """Float32 logits, accumulated in float32 from operands of any dtype.

    The gradient of the logits is rounded to the weight's dtype before its two products, so that
    bfloat16 training runs them as bfloat16 products and not as float32 ones.
    """
    return _times_transposed(hidden, weight_VD, jnp.float32)


def _logits_forward(hidden: Array, weight_VD: Array) -> tuple[Array, tuple[Array, Array]]:
    return _times_transposed(hidden, weight_VD, jnp.float32), (hidden, weight_VD)


def _logits_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    hidden, weight_VD = kept
    _, transpose = jax.vjp(_times_transposed, hidden, weight_VD)
    return transpose(gradient.astype(jnp.result_type(hidden, weight_VD)))


logits.defvjp(_logits_forward, _logits_backward)


def fresh(rngs: nnx.Rngs, shape: tuple[int, ...], dtype: str) -> nnx.Param:
    """A normally distributed weight for a model that is trained from the start."""
    assert math.prod(shape) > 0
    return nnx.Param(_FRESH_STD * jax.random.normal(rngs.params(), shape, dtype))


def _times_transposed(x: Array, weight_OI: Array, out_dtype: DTypeLike | None = None) -> Array:
    contract_last = (((x.ndim - 1,), (1,)), ((), ()))
    return lax.dot_general(x, weight_OI, contract_last, preferred_element_type=out_dtype)
