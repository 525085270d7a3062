"""cuDNN flash attention where the mask is one of its own, or an exact row partition of its own.

Its own masks: causal, causal window, full, each with right padding. Prefix-LM is two calls (full
over the prefix, causal over everything) and a choice by row: rows of attention are independent, so
the result is exact, forward and backward, and no [T, T] array exists.
"""

import functools
from importlib import metadata

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxablate.kernels.reference import Shaped
from jaxablate.masks.lower import Lowered

OWN_KINDS = ("causal", "full", "window", "prefix")
# Releases whose results are wrong for shapes used here (cudnn-frontend issues 160 and 1072).
BROKEN_VERSIONS = ((9, 10, 0), (9, 10, 1))
DENSE_LIMIT = 1024


def declines(lowered: Lowered, q: Shaped, k: Shaped, platform: str) -> str | None:
    """Why this call cannot be served by one of cuDNN's own masks; None when it can."""
    if lowered.kind not in OWN_KINDS:
        return f"mask kind {lowered.kind!r} is not one of cuDNN's own ({', '.join(OWN_KINDS)})"
    if q.shape[1] != k.shape[1]:
        return f"queries ({q.shape[1]}) and keys ({k.shape[1]}) differ in length"
    return _declines_shape(q, platform)


def _declines_shape(q: Shaped, platform: str) -> str | None:
    if platform != "gpu":
        return f"needs an NVIDIA GPU, got {platform}"
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"needs bfloat16 or float16, got {q.dtype}"
    if q.shape[-1] > 256 or q.shape[-1] % 8:
        return f"needs a head width <= 256 in multiples of 8, got {q.shape[-1]}"
    if q.shape[1] % 64:
        return f"needs a length in multiples of 64, got {q.shape[1]}"
    if version() in BROKEN_VERSIONS:
        return f"cuDNN {'.'.join(map(str, version()))} gives wrong results for these shapes"
    return None


@functools.cache
def version() -> tuple[int, ...]:
    """The installed cuDNN release, such as (9, 19, 0); () where none is installed as a package."""
    for package in ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"):
        try:
            return tuple(int(x) for x in metadata.version(package).split(".")[:3])
        except metadata.PackageNotFoundError:
            continue
    return ()


def run(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    lowered: Lowered,
    *,
    scale: float,
) -> Float[Array, "B T N H"]:
    """One cuDNN call, or two for prefix-LM. Rows that see nothing give zeros."""
    out = _CALLS[lowered.kind](q, k, v, lowered, scale)
    return jnp.where(_real_rows(q, lowered)[..., None, None], out, 0)  # B T 1 1


def _attend(q: Array, k: Array, v: Array, scale: float, **mask: object) -> Array:
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn", **mask)


def _causal(q: Array, k: Array, v: Array, lowered: Lowered, scale: float) -> Array:
    # Padding is on the right, so a real row never sees it and needs no lengths.
    return _attend(q, k, v, scale, is_causal=True)


def _window(q: Array, k: Array, v: Array, lowered: Lowered, scale: float) -> Array:
    # A window without is_causal looks into the future on cuDNN (jax pull request 39576).
    return _attend(q, k, v, scale, is_causal=True, local_window_size=(lowered.window - 1, 0))


def _full(q: Array, k: Array, v: Array, lowered: Lowered, scale: float) -> Array:
    return _padded(q, k, v, lowered.key_lengths, scale)


def _prefix(q: Array, k: Array, v: Array, lowered: Lowered, scale: float) -> Array:
    inside = (jnp.arange(q.shape[1])[None] < lowered.prefix[:, None])[..., None, None]  # B T 1 1
    q_in, k_in, v_in = (jnp.where(inside, x, 0) for x in (q, k, v))
    prefix = _padded(q_in, k_in, v_in, lowered.prefix, scale)
    return jnp.where(inside, prefix, _attend(q, k, v, scale, is_causal=True))


def _padded(q: Array, k: Array, v: Array, lengths: Array, scale: float) -> Array:
    # Length 0 gives NaN rows before cuDNN 9.25: ask for one row and drop it by the row choice.
    lengths = jnp.maximum(jnp.asarray(lengths, jnp.int32), 1)
    return _attend(q, k, v, scale, query_seq_lengths=lengths, key_value_seq_lengths=lengths)


_CALLS = {"causal": _causal, "window": _window, "full": _full, "prefix": _prefix}


def _real_rows(q: Array, lowered: Lowered) -> Bool[Array, "B T"]:
    return jnp.asarray(lowered.k_end) > jnp.asarray(lowered.k_start)


class Dense:
    """cuDNN with the mask as an array: for short rows whose mask is no interval mask."""

    @staticmethod
    def declines(lowered: Lowered, q: Shaped, k: Shaped, platform: str) -> str | None:
        """Only masks that no other form holds; only lengths whose [T, S] array stays small."""
        if lowered.kind != "dense":
            return f"mask kind {lowered.kind!r} has a form without a [T, S] array"
        if max(q.shape[1], k.shape[1]) > DENSE_LIMIT:
            return f"a [T, S] array is kept to {DENSE_LIMIT}, got {q.shape[1]} x {k.shape[1]}"
        # The backward gives NaN at T % 128 == 64 (pytorch issue 196678).
        if q.shape[1] % 128 or k.shape[1] % 128:
            return f"needs lengths in multiples of 128, got {q.shape[1]} x {k.shape[1]}"
        return _declines_shape(q, platform)

    @staticmethod
    def run(q: Array, k: Array, v: Array, lowered: Lowered, *, scale: float) -> Array:
        """One call with a boolean mask; rows that see nothing give zeros."""
        visible = lowered.boolean(k.shape[1])
        seen = jnp.any(visible, axis=-1)[..., None, None]  # B T 1 1
        return jnp.where(seen, _attend(q, k, v, scale, mask=visible[:, None]), 0)
