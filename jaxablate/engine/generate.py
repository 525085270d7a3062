"""Greedy generation: prefill under the mask, then one position at a time through the cache."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role, Slots, rows
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY, MaskStructure
from jaxablate.engine.prefill import prefill
from jaxablate.engine.skeleton import Skeleton, skeleton
from jaxablate.masks.algebra import Mask
from jaxablate.models.cache import KVCache

PROMPT_STEP = 64


@partial(jax.jit, static_argnames=("graph", "structure", "max_new", "eos"))
def _decode(
    graph: Skeleton,
    state: Any,
    hidden: Array,
    cache: KVCache,
    lengths: Int[Array, " B"],
    *,
    structure: MaskStructure,
    max_new: int,
    eos: tuple[int, ...],
) -> tuple[Int[Array, "B M"], Int[Array, " B"]]:
    """Greedy tokens and how many of them count (the stop token included)."""
    decoder = nnx.merge(graph.graph, state)
    start = cache.slots.position.shape[1] - max_new
    stops = jnp.asarray(eos, jnp.int32)

    def is_stop(token: Array) -> Array:
        return jnp.any(token[:, None] == stops[None], axis=-1)

    def step(carry: tuple) -> tuple:
        count, token, done, out, cache = carry
        hidden, cache = read_one(decoder, structure, token, lengths + count, cache, start + count)
        chosen = jnp.argmax(decoder.unembed(hidden)[:, 0], axis=-1).astype(jnp.int32)
        chosen = jnp.where(done, 0, chosen)
        out = out.at[:, count + 1].set(chosen)
        return count + 1, chosen, done | is_stop(chosen), out, cache

    last = _last(hidden, lengths)
    first = jnp.argmax(decoder.unembed(last)[:, 0], axis=-1).astype(jnp.int32)
    out = jnp.zeros((first.shape[0], max_new), jnp.int32).at[:, 0].set(first)
    carry = (jnp.int32(0), first, is_stop(first), out, cache)
    carry = jax.lax.while_loop(lambda c: (c[0] < max_new - 1) & ~jnp.all(c[2]), step, carry)
    return carry[3], _count_tokens(carry[3], stops)


def read_one(
    decoder: nnx.Module,
    structure: MaskStructure,
    token: Int[Array, " B"],
    position: Int[Array, " B"],
    cache: KVCache,
    at: Any,
) -> tuple[Array, KVCache]:
    """Read one response token a row into cache slot `at`: hidden [B, 1, D] and the new cache."""
    query = _response_slot(position)
    cache = cache.insert_slots(query, at)
    plan = structure.unlowered(query, cache.slots)

    def attend(layer: Any, q: Array, k: Array, v: Array, kept: Any) -> tuple[Array, Any]:
        filled = kept.insert(k, v, at)
        return plan.attend(layer, q, filled.k, filled.v), filled

    read = decoder(token[:, None], positions_BT=query.position, attend=attend, cache=cache)
    return read.hidden, read.cache


def _response_slot(position: Array) -> Slots:
    """The slot of the token that is about to be read: a response of segment 1, branch 0."""
    ones = jnp.ones_like(position)[:, None]
    return Slots(position[:, None], ones, ones * Role.RESPONSE, ones * 0, ones * 0)


def _last(hidden: Array, lengths: Int[Array, " B"]) -> Array:
    """The hidden state [B, 1, D] of each prompt's last token."""
    return jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)


def _count_tokens(out: Int[Array, "B M"], stops: Array) -> Int[Array, " B"]:
    stopped = jnp.any(out[..., None] == stops[None, None], axis=-1)
    first_stop = jnp.argmax(stopped, axis=1)
    return jnp.where(jnp.any(stopped, axis=1), first_stop + 1, out.shape[1])


def decode_logprobs(
    lm: Any,
    tokens: np.ndarray,
    prompt_lengths: Sequence[int],
    mask: Mask,
    *,
    part_starts: Sequence[Sequence[int]] | None = None,
    policy: str = DEFAULT_WINDOW_POLICY,
) -> np.ndarray:
    """Log-probability of each given continuation token as decoding would see it, float32 [B, R].

    Row b of `tokens` is its prompt, padded on the right to the longest prompt, then R continuation
    tokens: the prompt is prefilled under the mask, the continuation fed one token at a time.
    `part_starts[b]` are the tokens of prompt b at which its part 2, 3, ... begins.
    """
    lengths = np.asarray(prompt_lengths, np.int32)
    width = int(lengths.max())
    forced = tokens[:, width:]
    slots = rows(lengths, width, part_starts=part_starts)
    read = prefill(lm, tokens[:, :width], slots, mask, room=forced.shape[1], policy=policy)
    structure = MaskStructure.of(mask, lm.config, policy)
    with lm.precision():
        logprobs = _forced(
            skeleton(lm.graph), lm.params, read.hidden, read.cache, lengths,
            forced.astype(np.int32), structure=structure,
        )  # fmt: skip
    return np.asarray(logprobs)


@partial(jax.jit, static_argnames=("graph", "structure"))
def _forced(
    graph: Skeleton,
    state: Any,
    hidden: Array,
    cache: KVCache,
    lengths: Int[Array, " B"],
    forced: Int[Array, "B R"],
    *,
    structure: MaskStructure,
) -> Array:
    decoder = nnx.merge(graph.graph, state)
    start = cache.slots.position.shape[1] - forced.shape[1]

    def logprob(hidden: Array, token: Array) -> Array:
        scores = jax.nn.log_softmax(decoder.unembed(hidden)[:, 0])
        return jnp.take_along_axis(scores, token[:, None], axis=-1)[:, 0]

    def step(carry: tuple, inputs: tuple[Array, Array]) -> tuple[tuple, Array]:
        hidden, cache = carry
        count, token = inputs
        found = logprob(hidden, token)
        read = read_one(decoder, structure, token, lengths + count, cache, start + count)
        return read, found

    counts = jnp.arange(forced.shape[1], dtype=jnp.int32)
    _, found = jax.lax.scan(step, (_last(hidden, lengths), cache), (counts, forced.T))
    return found.T


def generate(
    lm: Any,
    prompts: Sequence[Sequence[int]],
    mask: Mask,
    *,
    prompt_lengths: Sequence[int] | None = None,
    max_new_tokens: int = 64,
    eos_ids: tuple[int, ...] = (),
    chunk: int | None = None,
    policy: str = DEFAULT_WINDOW_POLICY,
) -> list[list[int]]:
    """Greedy continuations of token prompts, each up to and without its stop token.

    `prompt_lengths[b]` says how many leading tokens of prompt b are PROMPT; the rest were said by
    the model already and are RESPONSE. Default: all of it is PROMPT.

    Raises:
        UserError: for an empty prompt, a prompt length out of range, or max_new_tokens < 1.
    """
    lengths = np.asarray([len(prompt) for prompt in prompts], np.int32)
    _check(lengths, prompt_lengths, max_new_tokens)
    width = -(-int(lengths.max()) // PROMPT_STEP) * PROMPT_STEP
    tokens = np.zeros((len(prompts), width), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    slots = rows(lengths, width, prompt_lengths)
    read = prefill(lm, tokens, slots, mask, room=max_new_tokens, chunk=chunk, policy=policy)
    structure = MaskStructure.of(mask, lm.config, policy)
    with lm.precision():
        out, counts = _decode(
            skeleton(lm.graph), lm.params, read.hidden, read.cache, lengths,
            structure=structure, max_new=max_new_tokens, eos=eos_ids,
        )  # fmt: skip
    kept = zip(np.asarray(out), np.asarray(counts), strict=True)
    taken = [row[:count].tolist() for row, count in kept]
    return [row[:-1] if row and row[-1] in eos_ids else row for row in taken]


def _check(lengths: np.ndarray, prompt_lengths: Sequence[int] | None, max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens must be >= 1, got {max_new_tokens}")
    if not len(lengths) or lengths.min() < 1:
        raise UserError("every prompt needs at least one token, got an empty one")
    if prompt_lengths is None:
        return
    if len(prompt_lengths) != len(lengths):
        raise UserError(f"got {len(prompt_lengths)} prompt lengths for {len(lengths)} prompts")
    for size, length in zip(prompt_lengths, lengths, strict=True):
        if not 0 <= size <= length:
            raise UserError(f"a prompt length must be in 0..{length}, got {size}")
