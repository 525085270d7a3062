"""Cross entropy of next tokens, with the vocabulary projection in chunks.

Float32 logits of one chunk exist at a time, never [B, T, V]. When a gradient is wanted, each chunk
makes its share of it at once, so that the backward pass does not project a second time; shares of
the projection's own gradient are added in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import custom_vjp_primal_tree_values
from jaxtyping import Array, Float, Int, Shaped

from jaxablate.losses.term import Term

# Float32 logits of one chunk are kept under this many bytes.
LOGIT_BYTES = 2**30


def token_ce(
    hidden_MD: Float[Array, "M D"],
    targets_M: Int[Array, " M"],
    weights_M: Shaped[Array, " M"],
    unembed: Callable[[Array], Array],
    *,
    logit_bytes: int = LOGIT_BYTES,
) -> Term:
    """Sum of weight * -log softmax(unembed(hidden))[target] and the sum of weights, in float32.

    Args:
        hidden_MD: positions in any order; those of weight 0 count for nothing, whatever they hold.
        targets_M: the token wanted at each position.
        weights_M: 1 or 0 (a loss mask), or any weight; no gradient flows into it.
        unembed: hidden [*, D] to float32 logits [*, V]. What it needs a gradient for must be a part
            of it as a pytree: `jax.tree_util.Partial(function, weight)`.
        logit_bytes: the most that the logits of one chunk take.
    """
    weights_M = jax.lax.stop_gradient(weights_M.astype(jnp.float32))
    vocab = jax.eval_shape(unembed, hidden_MD).shape[-1]
    chunks = num_chunks(hidden_MD.shape[0], 4 * vocab, logit_bytes)
    short = -hidden_MD.shape[0] % chunks
    hidden_MD = jnp.pad(hidden_MD, ((0, short), (0, 0)))
    targets_M, padded_M = jnp.pad(targets_M, (0, short)), jnp.pad(weights_M, (0, short))
    if not isinstance(unembed, jax.tree_util.Partial):
        unembed = jax.tree_util.Partial(unembed)
    return Term(_sum(chunks, unembed, hidden_MD, targets_M, padded_M), jnp.sum(weights_M))


def num_chunks(rows: int, bytes_each: int, limit: int) -> int:
    """The fewest equal chunks under the limit; a few more where that avoids padding.

    >>> num_chunks(16384, 4 * 131072, 2**30), num_chunks(10, 1, 4)
    (8, 5)
    """
    least = min(rows, -(-rows * bytes_each // limit))
    return next((n for n in range(least, 2 * least + 1) if rows % n == 0), least)


def _strided(chunks: int, array: Array) -> Array:
    """[M, ...] as [chunks, M / chunks, ...]; chunk c holds c, c + chunks, c + 2 * chunks, ...

    So every chunk takes evenly from rows that are spread over devices.
    """
    return array.reshape(-1, chunks, *array.shape[1:]).swapaxes(0, 1)


def _chunk_loss(scores: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """The chunk's weighted sum, and its gradient with respect to the logits."""
    log_total = jax.nn.logsumexp(scores, axis=-1, keepdims=True)
    is_target = jnp.arange(scores.shape[-1])[None, :] == target[:, None]
    entropy = log_total[:, 0] - jnp.sum(jnp.where(is_target, scores, 0), axis=-1)
    counts = weight != 0
    gradient = weight[:, None] * (jnp.exp(scores - log_total) - is_target)
    return (
        jnp.sum(jnp.where(counts, weight * entropy, 0)),
        jnp.where(counts[:, None], gradient, 0),
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum(chunks: int, unembed: Any, hidden: Array, targets: Array, weights: Array) -> Array:
    def body(total: Array, piece: tuple) -> tuple[Array, None]:
        part, target, weight = piece
        return total + _chunk_loss(unembed(part), target, weight)[0], None

    pieces = jax.tree.map(partial(_strided, chunks), (hidden, targets, weights))
    return jax.lax.scan(body, jnp.float32(0), pieces)[0]


def _forward(
    chunks: int, unembed: Any, hidden: Any, targets: Any, weights: Any
) -> tuple[Array, tuple[Any, Array, Any]]:
    learns = any(leaf.perturbed for leaf in jax.tree.leaves(unembed))
    unembed, hidden, targets, weights = custom_vjp_primal_tree_values(
        (unembed, hidden, targets, weights)
    )
    # A projection that is not trained (perturbed) takes no gradient and no memory for one.
    leaves, structure = jax.tree.flatten(unembed)
    learned = leaves if learns else []

    def project(learned: list[Array], part: Array) -> Array:
        return jax.tree.unflatten(structure, learned if learns else leaves)(part)

    def body(carry: tuple, piece: tuple) -> tuple[tuple, Array]:
        total, gradient = carry
        part, target, weight = piece
        scores, transpose = jax.vjp(project, learned, part)
        loss, scores_gradient = _chunk_loss(scores, target, weight)
        share, part_gradient = transpose(scores_gradient)
        gradient = jax.tree.map(lambda g, one: g + one.astype(jnp.float32), gradient, share)
        return (total + loss, gradient), part_gradient

    pieces = jax.tree.map(partial(_strided, chunks), (hidden, targets, weights))
    start = (jnp.float32(0), [jnp.zeros(leaf.shape, jnp.float32) for leaf in learned])
    (total, gradient), of_hidden = jax.lax.scan(body, start, pieces)
    of_hidden = of_hidden.swapaxes(0, 1).reshape(hidden.shape)
    of_unembed = jax.tree.unflatten(structure, gradient) if learns else None
    return total, (of_unembed, of_hidden, jax.tree.map(_tag, unembed))


def _tag(leaf: Array) -> Array:
    return jnp.zeros((0,), leaf.dtype)


def _backward(chunks: int, kept: tuple[Any, Array, Any], cotangent: Array) -> tuple:
    del chunks
    of_unembed, of_hidden, tags = kept
    if of_unembed is not None:
        of_unembed = jax.tree.map(
            lambda g, tag: (cotangent * g).astype(tag.dtype), of_unembed, tags
        )
    return of_unembed, (cotangent * of_hidden).astype(of_hidden.dtype), None, None


_sum.defvjp(_forward, _backward, symbolic_zeros=True)
