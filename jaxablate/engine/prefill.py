"""Prefill: read prompts into a KV cache under the mask, whole or in chunks.

The keys' slots are part of the cache, so decode asks the same mask as prefill: a padded key is
never visible, and a response never becomes bidirectional.
"""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Slots
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY, MaskPlan, MaskStructure
from jaxablate.masks.algebra import Mask
from jaxablate.masks.lower import valid_cuts
from jaxablate.models.cache import KVCache, empty


class Prefill(NamedTuple):
    """The prompt as the decoder read it: final hidden states [B, T, D] and the filled cache."""

    hidden: Array
    cache: KVCache


def prefill(
    lm: Any,
    tokens: np.ndarray,
    slots: Slots,
    mask: Mask,
    *,
    room: int,
    chunk: int | None = None,
    policy: str = DEFAULT_WINDOW_POLICY,
    kernel: str = "auto",
) -> Prefill:
    """Read right-padded prompts [B, T] into a cache with `room` free slots behind them.

    With `chunk`, in pieces of about that many positions: a piece ends only where no position
    before sees one after, so that the result equals one pass under any mask.

    Raises:
        UserError: when chunk is < 1.
    """
    structure = MaskStructure.of(mask, lm.config, policy)
    bounds = chunk_bounds(structure, slots, chunk)
    keys = slots.map(lambda field: np.pad(field, ((0, 0), (0, room))))
    cache = empty(lm.config, batch=len(tokens), size=keys.position.shape[1], dtype=str(lm.dtype))
    pieces = []
    for start, stop in itertools.pairwise(bounds):
        part = slots.map(lambda field, a=start, b=stop: field[:, a:b])
        seen = part if start == 0 else keys.map(lambda field, b=stop: _until(field, b))
        plan = structure.lower(part, seen, kernel=kernel)
        with lm.precision():
            hidden, cache = _prefill_piece(
                lm.graph, lm.params, jnp.asarray(tokens[:, start:stop]), part.map(jnp.asarray),
                plan, cache, start, fresh=start == 0,
            )  # fmt: skip
        pieces.append(hidden)
    return Prefill(jnp.concatenate(pieces, axis=1), cache)


def chunk_bounds(structure: MaskStructure, slots: Slots, chunk: int | None) -> list[int]:
    """0, the cuts, T: positions no piece of which must be read together with a later one."""
    length = slots.position.shape[1]
    if chunk is None:
        return [0, length]
    if chunk < 1:
        raise UserError(f"chunk must be >= 1, got {chunk}")
    allowed = set(range(1, length))
    for member in structure.members:
        allowed &= set(valid_cuts(member, slots))
    bounds = [0]
    for cut in sorted(allowed):
        if cut - bounds[-1] >= chunk:
            bounds.append(cut)
    return [*bounds, length]


def _until(field: np.ndarray, stop: int) -> np.ndarray:
    """Slots of the cache before `stop`; later ones are padding until they are filled."""
    return np.where(np.arange(field.shape[1])[None] < stop, field, 0)


@partial(jax.jit, static_argnames=("graph", "fresh"), donate_argnames=("cache",))
def _prefill_piece(
    graph: nnx.GraphDef,
    state: Any,
    tokens: Int[Array, "B T"],
    slots: Slots,
    plan: MaskPlan,
    cache: KVCache,
    at: Any,
    *,
    fresh: bool,
) -> tuple[Array, KVCache]:
    decoder = nnx.merge(graph, state)
    cache = cache.insert_slots(slots, at)

    def attend(layer: Any, q: Array, k: Array, v: Array, kept: Any) -> tuple[Array, Any]:
        filled = kept.insert(k, v, at)
        # The first piece needs no cache to look back to, so it keeps the kernels of a whole pass.
        keys, values = (k, v) if fresh else (filled.k, filled.v)
        return plan.attend(layer, q, keys, values), filled

    out = decoder(tokens, positions_BT=slots.position, attend=attend, cache=cache)
    return out.hidden, out.cache
