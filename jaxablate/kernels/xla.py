"""Plain XLA attention in blocks of queries: any mask, any device, no whole [T, T] array."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxablate.kernels.reference import softmax_attention
from jaxablate.masks.lower import Lowered

# Scores of one block are [B, N, BLOCK, S] in float32; shorter sequences are done in one piece.
BLOCK = 256


def run(
    q_BTNH: Float[Array, "B T N H"],
    k_BSKH: Float[Array, "B S K H"],
    v_BSKH: Float[Array, "B S K H"],
    lowered: Lowered,
    *,
    scale: float,
) -> Float[Array, "B T N H"]:
    """Attention in blocks of `BLOCK` queries, each recomputed in the backward pass."""
    length, keys = q_BTNH.shape[1], k_BSKH.shape[1]
    if length <= 2 * BLOCK:
        return softmax_attention(q_BTNH, k_BSKH, v_BSKH, lowered.boolean(keys), scale=scale)

    @jax.checkpoint
    def block(_: None, inputs: tuple[Array, Lowered]) -> tuple[None, Array]:
        q_block, rows = inputs
        return None, softmax_attention(q_block, k_BSKH, v_BSKH, rows.boolean(keys), scale=scale)

    _, out = jax.lax.scan(block, None, (_blocks(q_BTNH), _row_blocks(lowered)))
    out = jnp.moveaxis(out, 0, 1).reshape(q_BTNH.shape[0], -1, *q_BTNH.shape[2:])
    return out[:, :length]


def _blocks(array: Array) -> Array:
    """[B, T, ...] to [T / BLOCK, B, BLOCK, ...], zero-padded."""
    short = -array.shape[1] % BLOCK
    padded = jnp.pad(array, ((0, 0), (0, short)) + ((0, 0),) * (array.ndim - 2))
    return jnp.moveaxis(padded.reshape(array.shape[0], -1, BLOCK, *array.shape[2:]), 1, 0)


def _row_blocks(lowered: Lowered) -> Lowered:
    """The same rows in blocks. Zero padding is an empty interval, or a slot of segment 0."""
    if lowered.kind == "dense":
        assert lowered.queries is not None
        assert lowered.keys is not None
        blocks = (len(range(0, lowered.queries.position.shape[1], BLOCK)),)
        return dataclasses.replace(
            lowered,
            queries=lowered.queries.map(lambda x: _blocks(jnp.asarray(x))),
            keys=lowered.keys.map(lambda x: jnp.broadcast_to(x, blocks + x.shape)),
        )
    start, end = (_blocks(jnp.asarray(x)) for x in (lowered.k_start, lowered.k_end))
    return Lowered(kind="rows", k_start=start, k_end=end)
