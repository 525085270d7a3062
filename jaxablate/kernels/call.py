"""What a kernel is asked: the lowered mask, shapes, type and platform, before any array exists."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from jaxablate.masks.lower import Lowered

Shaped = Array | jax.ShapeDtypeStruct


class Call(NamedTuple):
    """One attention call as a kernel sees it when it decides whether to serve."""

    lowered: Lowered
    length: int
    keys: int
    width: int
    dtype: Any
    platform: str

    @classmethod
    def of(cls, lowered: Lowered, q: Shaped, k: Shaped, platform: str) -> "Call":
        """From queries [B, T, N, H] and keys [B, S, K, H], arrays or their shapes."""
        return cls(lowered, q.shape[1], k.shape[1], q.shape[-1], q.dtype, platform)
