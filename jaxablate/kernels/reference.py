"""The definition: float32 softmax over a dense boolean mask. Serves every mask; used by tests."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxablate.masks.lower import Lowered


def run(
    q_BTNH: Float[Array, "B T N H"],
    k_BSKH: Float[Array, "B S K H"],
    v_BSKH: Float[Array, "B S K H"],
    lowered: Lowered,
    *,
    scale: float,
) -> Float[Array, "B T N H"]:
    """softmax(scale * q k^T) v over the visible keys; a row that sees nothing gives zeros."""
    visible = lowered.boolean(k_BSKH.shape[1])
    return softmax_attention(q_BTNH, k_BSKH, v_BSKH, visible, scale=scale)


def softmax_attention(
    q_BTNH: Float[Array, "B T N H"],
    k_BSKH: Float[Array, "B S K H"],
    v_BSKH: Float[Array, "B S K H"],
    visible: Bool[Array, "B T S"],
    *,
    scale: float,
) -> Float[Array, "B T N H"]:
    """Attention with scores and softmax in float32; weights are cast to v's type, as in HF."""
    batch, length, heads, width = q_BTNH.shape
    weights = attention_weights(q_BTNH, k_BSKH, visible[:, None, None], scale=scale)  # B 1 1 T S
    out = jnp.einsum("bkgts,bskh->btkgh", weights.astype(v_BSKH.dtype), v_BSKH)
    return out.reshape(batch, length, heads, width).astype(q_BTNH.dtype)


def attention_weights(
    q_BTNH: Float[Array, "B T N H"],
    k_BSKH: Float[Array, "B S K H"],
    visible: Bool[Array, "... T S"],
    *,
    scale: float,
) -> Float[Array, "B K G T S"]:
    """How much each query attends to each key, in float32; query head n is [n // G, n % G].

    `visible` is [B, K, G, T, S], or has ones for K and G where all heads see the same.
    """
    batch, length, heads, width = q_BTNH.shape
    kv_heads = k_BSKH.shape[2]
    q_BTKGH = q_BTNH.reshape(batch, length, kv_heads, heads // kv_heads, width)
    scores = jnp.einsum(
        "btkgh,bskh->bkgts", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32
    ) * jnp.float32(scale)
    return masked_softmax(scores, visible)


def masked_softmax(scores: Float[Array, "..."], visible: Bool[Array, "..."]) -> Array:
    """Softmax over the last axis where `visible`; all zeros where nothing is visible.

    The normaliser is guarded by where() rather than by a large negative fill, which would spread
    a row that sees nothing evenly over all keys, the future included.
    """
    masked = jnp.where(visible, scores, -jnp.inf)
    peak = jnp.max(masked, axis=-1, keepdims=True)
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    powers = jnp.where(visible, jnp.exp(masked - peak), 0.0)
    total = jnp.sum(powers, axis=-1, keepdims=True)
    return powers / jnp.where(total > 0, total, 1.0)
