"""One pass of a decoder over whole rows under a mask plan, compiled once per shape."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxablate.engine.plan import MaskPlan, without_cache
from jaxablate.models.decoder import Decoder

# Logits of one piece of the vocabulary projection are kept under this many bytes.
LOGIT_BYTES = 512 * 2**20


@partial(jax.jit, static_argnames=("graph",))
def logits(
    graph: nnx.GraphDef,
    state: Any,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    plan: MaskPlan,
) -> Float[Array, "B T V"]:
    """Float32 logits of every position."""
    decoder = nnx.merge(graph, state)
    out = decoder(tokens, positions_BT=positions, attend=without_cache(plan))
    return decoder.unembed(out.hidden)


@partial(jax.jit, static_argnames=("graph",))
def hidden_states(
    graph: nnx.GraphDef,
    state: Any,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    plan: MaskPlan,
) -> Float[Array, "L2 B T D"]:
    """The embedding, the output of each layer, and the output of the final norm."""
    decoder = nnx.merge(graph, state)
    return decoder(tokens, positions_BT=positions, attend=without_cache(plan), collect=True).states


@partial(jax.jit, static_argnames=("graph",))
def target_logprobs(
    graph: nnx.GraphDef,
    state: Any,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    plan: MaskPlan,
    index: Int[Array, " M"],
    targets: Int[Array, " M"],
) -> tuple[Float[Array, " M"], Any]:
    """Log-probability of targets[i] at flat position index[i], and whether it is the argmax.

    Only the positions asked for reach the vocabulary projection, in pieces of float32 logits.
    """
    decoder = nnx.merge(graph, state)
    hidden = decoder(tokens, positions_BT=positions, attend=without_cache(plan)).hidden
    wanted = hidden.reshape(-1, hidden.shape[-1])[index]
    return chunked_logprobs(decoder, wanted, targets)


def chunked_logprobs(
    decoder: Decoder, hidden_MD: Float[Array, "M D"], targets_M: Int[Array, " M"]
) -> tuple[Float[Array, " M"], Any]:
    """Log softmax(unembed(hidden))[target] in float32 and whether the target is the argmax."""
    vocab = decoder.config.vocab_size
    size = max(1, min(hidden_MD.shape[0], LOGIT_BYTES // (4 * vocab)))
    short = -hidden_MD.shape[0] % size
    pieces = (
        jnp.pad(hidden_MD, ((0, short), (0, 0))).reshape(-1, size, hidden_MD.shape[1]),
        jnp.pad(targets_M, (0, short)).reshape(-1, size),
    )

    def piece(inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        hidden, target = inputs
        scores = decoder.unembed(hidden[None])[0]
        peak = jnp.take_along_axis(scores, target[:, None], axis=-1)[:, 0]
        return peak - jax.nn.logsumexp(scores, axis=-1), jnp.argmax(scores, axis=-1) == target

    logprobs, greedy = jax.lax.map(piece, pieces)
    count = targets_M.shape[0]
    return logprobs.reshape(-1)[:count], greedy.reshape(-1)[:count]
