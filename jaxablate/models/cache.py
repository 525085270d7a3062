"""The KV cache as a value: inserting returns a new cache, so one prefill serves many answers."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxablate.core.slots import Slots
from jaxablate.models.config import DecoderConfig


class LayerCache(NamedTuple):
    """Keys (rotated) and values of one layer, [B, S, K, H]."""

    k: Array
    v: Array

    def insert(
        self,
        k_BTKH: Float[Array, "B T K H"],
        v_BTKH: Float[Array, "B T K H"],
        at: int | Int[Array, ""],
    ) -> "LayerCache":
        """This cache with keys [at, at + T) replaced; the caller keeps at + T <= S."""
        return LayerCache(_insert(self.k, k_BTKH, at), _insert(self.v, v_BTKH, at))


class KVCache(NamedTuple):
    """All layers' keys and values, and what their slots are; unused slots are padding."""

    layers: tuple[LayerCache, ...]
    slots: Slots

    def insert_slots(self, slots: Slots, at: int | Int[Array, ""]) -> "KVCache":
        """This cache with the slots [at, at + T) described; keys follow layer by layer."""
        merged = (_insert(old, new, at) for old, new in zip(self.slots, slots, strict=True))
        return self._replace(slots=Slots(*merged))

    def with_layers(self, layers: Sequence[LayerCache]) -> "KVCache":
        """This cache with other keys and values."""
        return self._replace(layers=tuple(layers))


def empty(config: DecoderConfig, *, batch: int, size: int, dtype: str) -> KVCache:
    """A cache of `size` padding slots a row."""
    shape = (batch, size, config.num_kv_heads, config.head_dim)
    layers = tuple(
        LayerCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        for _ in range(config.num_layers)
    )
    return KVCache(layers, Slots(*(jnp.zeros((batch, size), jnp.int32) for _ in Slots._fields)))


def _insert(old: Array, new: Array, at: int | Array) -> Array:
    # A start that does not fit would be moved by XLA and overwrite other keys.
    assert not isinstance(at, int) or 0 <= at <= old.shape[1] - new.shape[1]
    return lax.dynamic_update_slice_in_dim(old, jnp.asarray(new, old.dtype), at, axis=1)
