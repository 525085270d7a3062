"""One query position a row over the cache: the decode step, for every mask."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxablate.kernels.call import Call
from jaxablate.kernels.reference import masked_softmax
from jaxablate.masks.lower import Lowered


def declines(call: Call) -> str | None:
    """Serves a single query position."""
    return None if call.length == 1 else f"decode reads one position a row, got {call.length}"


def run(
    q_BTNH: Float[Array, "B 1 N H"],
    k_BSKH: Float[Array, "B S K H"],
    v_BSKH: Float[Array, "B S K H"],
    lowered: Lowered,
    *,
    scale: float,
) -> Float[Array, "B 1 N H"]:
    """Reads every cached key and value once; scores and softmax in float32."""
    batch, _, heads, width = q_BTNH.shape
    q_BKGH = q_BTNH.reshape(batch, k_BSKH.shape[2], -1, width)
    scores = jnp.einsum("bkgh,bskh->bkgs", q_BKGH, k_BSKH, preferred_element_type=jnp.float32)
    visible = lowered.boolean(k_BSKH.shape[1])[:, :, None]  # B 1 1 S
    weights = masked_softmax(scores * jnp.float32(scale), visible)
    out = jnp.einsum("bkgs,bskh->bkgh", weights.astype(v_BSKH.dtype), v_BSKH)
    return out.reshape(batch, 1, heads, width).astype(q_BTNH.dtype)
