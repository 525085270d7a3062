"""A mask made ready for a decoder: lowered once per distinct layer and head, before any layer runs.

The experiment's mask and the model's own sliding window meet here, by a named policy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxablate.core.slots import Slots
from jaxablate.kernels.attention import attention, choose, default_platform
from jaxablate.kernels.call import Call
from jaxablate.masks.algebra import Mask
from jaxablate.masks.lower import Lowered, lower
from jaxablate.masks.window import with_window
from jaxablate.models.config import DecoderConfig

# What becomes of the model's own sliding window under an experiment's mask (masks.window).
DEFAULT_WINDOW_POLICY = "causal_side"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["lowered"],
    meta_fields=["layers", "scale", "kernel"],
)
@dataclass(frozen=True)
class MaskPlan:
    """Which lowered mask each head of each layer uses.

    `layers[l]` lists (heads, index into `lowered`); heads is None when all heads agree.
    """

    lowered: tuple[Lowered, ...]
    layers: tuple[tuple[tuple[tuple[int, ...] | None, int], ...], ...] = field(default=())
    scale: float = 1.0
    kernel: str = "auto"

    def attend(self, layer: Any, q: Array, k: Array, v: Array) -> Array:
        """Attention of one layer; `layer` is an int, or traced when layers are scanned."""
        if isinstance(layer, int):
            return self._attend_heads(self.layers[layer], q, k, v)
        kinds = sorted(set(self.layers), key=self.layers.index)
        if len(kinds) == 1:
            return self._attend_heads(kinds[0], q, k, v)
        which = jnp.asarray([kinds.index(groups) for groups in self.layers])[layer]
        branches = [partial(self._attend_heads, groups) for groups in kinds]
        return jax.lax.switch(which, branches, q, k, v)

    def _attend_heads(self, groups: tuple, q: Array, k: Array, v: Array) -> Array:
        if groups[0][0] is None:
            return self._attend_one(groups[0][1], q, k, v)
        out = jnp.zeros_like(q)
        per_kv_head = q.shape[2] // k.shape[2]
        for heads, index in groups:
            of_kv = np.asarray(heads) // per_kv_head
            taken = self._attend_one(index, q[:, :, heads, :], k[:, :, of_kv], v[:, :, of_kv])
            out = out.at[:, :, heads, :].set(taken)
        return out

    def _attend_one(self, index: int, q: Array, k: Array, v: Array) -> Array:
        return attention(q, k, v, self.lowered[index], scale=self.scale, kernel=self.kernel)


def layer_masks(mask: Mask, config: DecoderConfig, policy: str) -> list[Mask]:
    """The mask of each layer, the model's own window included; heads still unresolved."""
    masks = [mask.at(layer, None) for layer in range(config.num_layers)]
    return [
        own if window is None else with_window(own, window, policy)
        for own, window in zip(masks, config.windows, strict=True)
    ]


@dataclass(frozen=True)
class MaskStructure:
    """The distinct masks of a decoder's layers and heads, before any slot is known. Hashable."""

    members: tuple[Mask, ...]
    layers: tuple[tuple[tuple[tuple[int, ...] | None, int], ...], ...]
    scale: float

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, mask: Mask, config: DecoderConfig, policy: str) -> "MaskStructure":
        """Resolve layer and head selection and the model's own window."""
        indices: dict[Mask, int] = {}
        layers = []
        for layer, whole in enumerate(layer_masks(mask, config, policy)):
            groups = _head_groups(whole, layer, config.num_heads)
            for member in groups:
                indices.setdefault(member, len(indices))
            layers.append(tuple((heads, indices[member]) for member, heads in groups.items()))
        return cls(tuple(indices), tuple(layers), float(config.head_dim**-0.5))

    def lower(self, queries: Slots, keys: Slots, *, kernel: str = "auto") -> MaskPlan:
        """The plan for host slots [B, T] and [B, S]."""
        lowered = tuple(lower(member, queries, keys) for member in self.members)
        return MaskPlan(lowered, self.layers, self.scale, kernel)

    def unlowered(self, queries: Slots, keys: Slots) -> MaskPlan:
        """The plan for traced slots: masks are evaluated inside the program, as in decode."""
        lowered = tuple(
            Lowered(kind="dense", mask=member, queries=queries, keys=keys)
            for member in self.members
        )
        return MaskPlan(lowered, self.layers, self.scale)


def plan_mask(
    mask: Mask,
    queries: Slots,
    keys: Slots,
    config: DecoderConfig,
    *,
    policy: str = DEFAULT_WINDOW_POLICY,
    kernel: str = "auto",
) -> MaskPlan:
    """Lower `mask` for every layer and head of a decoder; equal ones are lowered once.

    `queries` and `keys` are host arrays [B, T] and [B, S].
    """
    return MaskStructure.of(mask, config, policy).lower(queries, keys, kernel=kernel)


def _head_groups(mask: Mask, layer: int, num_heads: int) -> dict[Mask, tuple[int, ...] | None]:
    if not mask.selects_heads:
        return {mask.at(layer, 0): None}
    groups: dict[Mask, tuple[int, ...]] = {}
    for head in range(num_heads):
        member = mask.at(layer, head)
        groups[member] = (*groups.get(member, ()), head)
    return dict.fromkeys(groups) if len(groups) == 1 else groups


def kernel_choices(
    plan: MaskPlan, config: DecoderConfig, dtype: Any, *, batch: int, length: int
) -> list[dict[str, Any]]:
    """The kernel of each lowered mask for whole rows [batch, length], and why others declined."""
    q = jax.ShapeDtypeStruct((batch, length, config.num_heads, config.head_dim), dtype)
    k = jax.ShapeDtypeStruct((batch, length, config.num_kv_heads, config.head_dim), dtype)
    platform = default_platform()
    return [
        choose(Call.of(lowered, q, k, platform), kernel=plan.kernel).to_json()
        for lowered in plan.lowered
    ]


Attend = Callable[[Any, Array, Array, Array, Any], tuple[Array, Any]]


def without_cache(plan: MaskPlan) -> Attend:
    """The decoder's `attend` for one pass over whole rows."""

    def attend(layer: Any, q: Array, k: Array, v: Array, layer_cache: Any) -> tuple[Array, Any]:
        return plan.attend(layer, q, k, v), layer_cache

    return attend
