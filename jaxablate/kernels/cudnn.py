"""cuDNN flash attention where the mask is one of its own, or an exact row partition of its own.

Its own masks: causal, causal window, full, each with right padding. Prefix-LM is two calls (full
over the prefix, causal over everything) and a choice by row: rows of attention are independent, so
the result is exact, forward and backward, and no [T, T] array exists. Any other mask, such as that
of packed examples, is given as an array where rows are short.
"""

import functools
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxablate.kernels.call import Call
from jaxablate.masks.lower import Lowered

OWN_KINDS = ("causal", "full", "window", "prefix")
# Releases whose results are wrong for shapes used here (cudnn-frontend issues 160 and 1072).
BROKEN_VERSIONS = ((9, 10, 0), (9, 10, 1))
DENSE_LIMIT = 1024


def declines(call: Call) -> str | None:
    """Why this call cannot be served by one of cuDNN's own masks; None when it can."""
    kind = call.lowered.kind
    if kind not in OWN_KINDS:
        return f"mask kind {kind!r} is not one of cuDNN's own ({', '.join(OWN_KINDS)})"
    if call.length != call.keys:
        return f"queries ({call.length}) and keys ({call.keys}) differ in length"
    return _declines_shape(call)


def declines_dense(call: Call) -> str | None:
    """Only masks that are none of cuDNN's own; only lengths whose [T, S] array stays small."""
    if call.lowered.kind in OWN_KINDS:
        return f"mask kind {call.lowered.kind!r} has a form without a [T, S] array"
    size = f"{call.length} x {call.keys}"
    if max(call.length, call.keys) > DENSE_LIMIT:
        return f"a [T, S] array is kept to {DENSE_LIMIT}, got {size}"
    # The backward gives NaN at T % 128 == 64 (pytorch issue 196678).
    if call.length % 128 or call.keys % 128:
        return f"needs lengths in multiples of 128, got {size}"
    return _declines_shape(call)


def _declines_shape(call: Call) -> str | None:
    if call.platform != "gpu":
        return f"needs an NVIDIA GPU, got {call.platform}"
    if call.dtype not in (jnp.bfloat16, jnp.float16):
        return f"needs bfloat16 or float16, got {call.dtype}"
    if call.width > 256 or call.width % 8:
        return f"needs a head width <= 256 in multiples of 8, got {call.width}"
    if call.length % 64:
        return f"needs a length in multiples of 64, got {call.length}"
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
    match lowered.kind:
        case "causal":
            # Padding is on the right, so a real row never sees it and needs no lengths.
            out = _attend(q, k, v, scale, is_causal=True)
        case "window":
            assert lowered.window is not None
            # Without is_causal a window looks into the future (jax pull request 39576).
            window = (lowered.window - 1, 0)
            out = _attend(q, k, v, scale, is_causal=True, local_window_size=window)
        case "prefix":
            out = _prefix(q, k, v, lowered.prefix, scale)
        case _:
            out = _padded(q, k, v, lowered.key_lengths, scale)
    sees = jnp.asarray(lowered.k_end) > jnp.asarray(lowered.k_start)
    return jnp.where(sees[..., None, None], out, 0)  # B T 1 1


def run_dense(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    lowered: Lowered,
    *,
    scale: float,
) -> Float[Array, "B T N H"]:
    """One call with a boolean mask as an array; rows that see nothing give zeros."""
    visible = lowered.boolean(k.shape[1])
    sees = jnp.any(visible, axis=-1)[..., None, None]  # B T 1 1
    return jnp.where(sees, _attend(q, k, v, scale, mask=visible[:, None]), 0)


def _attend(q: Array, k: Array, v: Array, scale: float, **mask: Any) -> Array:
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn", **mask)


def _prefix(q: Array, k: Array, v: Array, prefix: Array, scale: float) -> Array:
    """Rows inside the prefix from a full call over it, the others from a causal call."""
    index = jnp.arange(q.shape[1])[None]
    inside = (index < jnp.asarray(prefix)[:, None])[..., None, None]  # B T 1 1
    # Zeros outside, both ways: the result never rests on what cuDNN leaves in unused rows.
    q_in, k_in, v_in = (jnp.where(inside, x, 0) for x in (q, k, v))
    within = _padded(q_in, k_in, v_in, prefix, scale)
    return jnp.where(inside, within, _attend(q, k, v, scale, is_causal=True))


def _padded(q: Array, k: Array, v: Array, lengths: Array, scale: float) -> Array:
    # Length 0 gives NaN rows before cuDNN 9.25: ask for one row and drop it by the row choice.
    lengths = jnp.maximum(jnp.asarray(lengths, jnp.int32), 1)
    return _attend(q, k, v, scale, query_seq_lengths=lengths, key_value_seq_lengths=lengths)
