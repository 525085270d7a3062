"""Rotary positions: inverse frequencies of each kind, the tables of a pass, and the rotation."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxablate.models.config import QueryScale, RopeConfig


class Rotation(NamedTuple):
    """What turns queries and keys in one pass: the same for every layer, so computed once."""

    cos: Float[Array, "B T 1 half"]
    sin: Float[Array, "B T 1 half"]
    query_scale: Float[Array, "B T 1 1"] | None


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> Float[np.ndarray, " half"]:
    """Radians per position of each of the head_dim / 2 rotating pairs, in float32.

    >>> inverse_frequencies(RopeConfig(theta=100.0), 4).tolist()
    [1.0, 0.10000000149011612]
    """
    wavelengths = _powers(rope.theta, head_dim)
    plain = np.float32(1) / wavelengths
    if rope.kind == "linear":
        return plain / np.float32(rope.factor)
    if rope.kind == "llama3":
        return _llama3(rope, plain)
    if rope.kind == "yarn":
        return _yarn(rope, wavelengths)
    return plain


def attention_factor(rope: RopeConfig) -> float:
    """What cos and sin are multiplied by; 1 for every kind but YaRN."""
    if rope.kind != "yarn":
        return 1.0
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return _mscale(rope.factor, rope.mscale) / _mscale(rope.factor, rope.mscale_all_dim)
    return _mscale(rope.factor, 1.0)


def rotation(
    positions_BT: Int[Array, "B T"],
    *,
    rope: RopeConfig,
    head_dim: int,
    query_scale: QueryScale | None,
    dtype: str,
) -> Rotation:
    """Tables for these positions, computed in float32 and then cast to the activations' dtype."""
    frequencies = jnp.asarray(inverse_frequencies(rope, head_dim))
    angles = positions_BT[:, :, None, None].astype(jnp.float32) * frequencies[None, None, None, :]
    factor = attention_factor(rope)
    scale = None if query_scale is None else _scale_of_queries(positions_BT, query_scale, dtype)
    return Rotation(
        cos=(jnp.cos(angles) * factor).astype(dtype),
        sin=(jnp.sin(angles) * factor).astype(dtype),
        query_scale=scale,
    )


def rotate(
    x_BTNH: Float[Array, "B T N H"],
    cos: Float[Array, "B T 1 half"],
    sin: Float[Array, "B T 1 half"],
) -> Float[Array, "B T N H"]:
    """Turns the pair (i, i + H/2) of every head by its angle (half-split, not interleaved)."""
    first, second = jnp.split(x_BTNH, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _scale_of_queries(
    positions_BT: Int[Array, "B T"], scale: QueryScale, dtype: str
) -> Float[Array, "B T 1 1"]:
    rounds = (positions_BT // scale.original_max_position_embeddings).astype(jnp.float32)
    return (1 + scale.beta * jnp.log1p(rounds))[:, :, None, None].astype(dtype)


def _powers(theta: float, head_dim: int) -> np.ndarray:
    """Theta ** (2i / head_dim): exponents in float32, powers correctly rounded to float32."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return np.power(theta, exponents.astype(np.float64)).astype(np.float32)


def _llama3(rope: RopeConfig, plain: np.ndarray) -> np.ndarray:
    """Long wavelengths are stretched, short ones kept, those between mixed."""
    original = rope.original_max_position_embeddings
    low, high = rope.low_freq_factor, rope.high_freq_factor
    wavelength = np.float32(2 * math.pi) / plain
    smooth = (np.float32(original) / wavelength - np.float32(low)) / np.float32(high - low)
    factor = np.float32(rope.factor)
    mixed = (1 - smooth) * plain / factor + smooth * plain
    stretched = np.where(wavelength > original / low, plain / factor, mixed)
    return np.where(wavelength < original / high, plain, stretched).astype(np.float32)


def _yarn(rope: RopeConfig, wavelengths: np.ndarray) -> np.ndarray:
    """Pairs that turn often keep their frequency, slow ones are stretched, a ramp between."""
    head_dim = 2 * len(wavelengths)
    low = _pair_turning(rope, rope.beta_fast, head_dim)
    high = _pair_turning(rope, rope.beta_slow, head_dim)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001  # an empty ramp would divide by zero
    steps = (np.arange(len(wavelengths), dtype=np.float32) - np.float32(low)) / np.float32(
        high - low
    )
    ramp = np.clip(steps, 0, 1).astype(np.float32)
    kept = 1 - ramp
    stretched = np.float32(1) / (np.float32(rope.factor) * wavelengths)
    return stretched * (1 - kept) + np.float32(1) / wavelengths * kept


def _pair_turning(rope: RopeConfig, turns: float, head_dim: int) -> float:
    """The (fractional) pair that makes `turns` full turns over the original context."""
    context = rope.original_max_position_embeddings
    return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
