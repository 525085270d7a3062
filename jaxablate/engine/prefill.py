"""Prefill: read prompts into a KV cache under the mask, whole or in chunks.

The keys' slots are part of the cache, so decode asks the same mask as prefill: a padded key is
never visible, and a response never becomes bidirectional.
"""

import itertools
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Slots
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY, MaskPlan, MaskStructure
from jaxablate.engine.skeleton import Skeleton, skeleton
from jaxablate.masks.algebra import Mask
from jaxablate.masks.lower import valid_cuts
from jaxablate.models.cache import KVCache, empty

# Plans over at most so many key slots are kept for the next prompts of the same shape.
KEPT_SLOTS = 2**16


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
    size = bounds[-1] + room
    cache, pieces = None, []
    for start, stop in itertools.pairwise(bounds):
        part, plan = _lay_out(structure, slots, (start, stop, size), kernel)
        with lm.precision():
            hidden, cache = _prefill_piece(
                skeleton(lm.graph), lm.params, tokens[:, start:stop], part, plan, cache, start,
                size=size,
            )  # fmt: skip
        pieces.append(hidden)
    assert cache is not None
    return Prefill(pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces, axis=1), cache)


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


class _Content:
    """Host slots that are equal when all their numbers are; the key under which a plan is kept."""

    def __init__(self, slots: Slots):
        self.slots = slots
        self._key = tuple((field.shape, field.dtype.str, field.tobytes()) for field in slots)
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self._key == other._key


def _lay_out(
    structure: MaskStructure, slots: Slots, piece: tuple[int, int, int], kernel: str
) -> tuple[Slots, MaskPlan]:
    """The slots [start, stop) on the device, and their plan in a cache of a size.

    The first piece needs no cache to look back to, so it is planned as a whole pass.
    """
    start, stop, size = piece
    part = slots.map(lambda field: field[:, start:stop])
    queries = keys = _Content(part)
    if start > 0:
        # Slots of the cache from `stop` on are padding until they are filled.
        width = ((0, 0), (0, size - stop))
        keys = _Content(slots.map(lambda field: np.pad(field[:, :stop], width)))
    small = keys.slots.position.size <= KEPT_SLOTS
    return (_kept_plan if small else _plan)(structure, queries, keys, kernel)


def _plan(
    structure: MaskStructure, queries: _Content, keys: _Content, kernel: str
) -> tuple[Slots, MaskPlan]:
    plan = structure.lower(queries.slots, keys.slots, kernel=kernel)
    # Copies, as what is kept must not change with the caller's arrays; never a tracer.
    with jax.ensure_compile_time_eval():
        return jax.device_put(jax.tree.map(np.array, (queries.slots, plan)))


_kept_plan = lru_cache(maxsize=8)(_plan)


@partial(jax.jit, static_argnames=("graph", "size"), donate_argnames=("cache",))
def _prefill_piece(
    graph: Skeleton,
    state: Any,
    tokens: Int[Array, "B T"],
    slots: Slots,
    plan: MaskPlan,
    cache: KVCache | None,
    at: Any,
    *,
    size: int,
) -> tuple[Array, KVCache]:
    """One piece from slot `at` on; without a cache it is the first and makes it."""
    decoder = nnx.merge(graph.graph, state)
    fresh = cache is None
    if cache is None:
        dtype = str(jax.tree.leaves(state)[0].dtype)
        at, cache = 0, empty(decoder.config, batch=len(tokens), size=size, dtype=dtype)
    cache = cache.insert_slots(slots, at)

    def attend(layer: Any, q: Array, k: Array, v: Array, kept: Any) -> tuple[Array, Any]:
        filled = kept.insert(k, v, at)
        # The first piece keeps the kernels of a whole pass.
        keys, values = (k, v) if fresh else (filled.k, filled.v)
        return plan.attend(layer, q, keys, values), filled

    out = decoder(tokens, positions_BT=slots.position, attend=attend, cache=cache)
    return out.hidden, out.cache
