"""Which inputs a position's loss depends on: measured by gradients, and as the mask alone says.

The loss at position t predicts the token in slot t + 1. Where its gradient with respect to the
embedding in slot t + 1 is not zero, the prediction can see what it predicts. In a prompt that is
read both ways this is meant, and nothing there is scored; at a scored position it is a leak.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Slots, rows
from jaxablate.engine.plan import (
    DEFAULT_WINDOW_POLICY,
    MaskPlan,
    layer_masks,
    plan_mask,
    without_cache,
)
from jaxablate.language_model import as_mask
from jaxablate.masks.algebra import Mask
from jaxablate.masks.intervals import row_intervals
from jaxablate.masks.leak import join_heads
from jaxablate.masks.reach import reached_from
from jaxablate.models.config import DecoderConfig

# Every position is one row of the batch, so memory grows with the square of the length.
MOST_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What flows into each position of one row under a mask, measured and by the mask.

    Attributes:
        mask: the mask's algebra.
        tokens: ids of the row.
        prompt_length: so many of them are prompt; the last of these predicts the first response.
        gradient: float32 [T, T], see `gradient_flow`.
        reachable: bool [T, T], see `reachable`.
    """

    mask: str
    tokens: tuple[int, ...]
    prompt_length: int
    gradient: Float[np.ndarray, "T T"]
    reachable: Bool[np.ndarray, "T T"]

    @property
    def sees_target(self) -> tuple[int, ...]:
        """Positions whose loss moves with the token that they predict."""
        return targets_seen(self.gradient)

    @property
    def leaks(self) -> tuple[int, ...]:
        """Those of them that are scored, the last prompt position and the responses'."""
        return tuple(t for t in self.sees_target if t >= self.prompt_length - 1)

    @property
    def num_scored(self) -> int:
        """How many positions predict a response token of the row."""
        return len(self.tokens) - self.prompt_length

    def to_json(self) -> dict[str, Any]:
        """Plain values, tables as lists."""
        plain = {"leaks": self.leaks, "sees_target": self.sees_target, **asdict(self)}
        tables = {name: plain[name].tolist() for name in ("gradient", "reachable")}
        return {**plain, **tables}


def measure(
    lm: Any,
    tokens: Sequence[int],
    mask: str | Mask,
    *,
    prompt_length: int,
    policy: str = DEFAULT_WINDOW_POLICY,
    kernel: str = "auto",
) -> Flow:
    """Both tables for one row of tokens; see `gradient_flow` and `reachable`."""
    length, rule = len(tokens), as_mask(mask)
    gradient = gradient_flow(
        lm, tokens, rule, prompt_length=prompt_length, policy=policy, kernel=kernel
    )
    return Flow(
        mask=str(rule),
        tokens=tuple(map(int, tokens)),
        prompt_length=prompt_length,
        gradient=gradient,
        reachable=reachable(lm.config, length, rule, prompt_length=prompt_length, policy=policy),
    )


def gradient_flow(
    lm: Any,
    tokens: Sequence[int],
    mask: str | Mask,
    *,
    prompt_length: int,
    policy: str = DEFAULT_WINDOW_POLICY,
    kernel: str = "auto",
) -> Float[np.ndarray, "T T"]:
    """|d loss at position t / d input embedding in slot j| as a table [t, j], in nats per unit.

    The loss at t is the negative log-likelihood of token t + 1; the last position, which has no
    successor, is asked for its own likeliest token. The embeddings are moved as inputs only: the
    token that is predicted stays what it is. Measured by one backward pass of the model, in one
    program for all masks that are intervals of keys. An entry is exactly 0.0 where nothing flows.

    Args:
        lm: what `jaxablate.load` returns.
        tokens: ids of one row.
        mask: name, algebra or mask.
        prompt_length: how many of the tokens are prompt, 1..T.
        policy: what becomes of the model's own sliding window.
        kernel: attention kernel, or "auto".

    Raises:
        UserError: for fewer than 2 or more than `MOST_TOKENS` tokens, or a prompt length outside.
    """
    ids = _check(lm.config, tokens, prompt_length)
    width = ids.shape[1]
    slots = _slots(width, prompt_length, num_rows=width)
    plan = plan_mask(as_mask(mask), slots, slots, lm.config, policy=policy, kernel=kernel)
    plan = replace(plan, lowered=tuple(lowered.as_rows() for lowered in plan.lowered))
    inputs = lm.place_rows((np.repeat(ids, width, axis=0), slots.position, plan))
    with lm.precision():
        return np.asarray(_gradients(lm.graph, lm.params, *inputs))


def reachable(
    config: DecoderConfig,
    length: int,
    mask: str | Mask,
    *,
    prompt_length: int,
    policy: str = DEFAULT_WINDOW_POLICY,
) -> Bool[np.ndarray, "T T"]:
    """[t, j]: whether the mask lets slot j reach position t in all layers together.

    This is what the leak guard decides by; the model's own sliding windows count.
    """
    slots = _slots(length, prompt_length)
    rules = [
        join_heads(rule, layer, config.num_heads)
        for layer, rule in enumerate(layer_masks(as_mask(mask), config, policy))
    ]
    intervals = {rule: row_intervals(rule, slots, slots) for rule in dict.fromkeys(rules)}
    return reached_from([intervals[rule] for rule in rules], np.arange(length))


def targets_seen(table: Shaped[np.ndarray, "T T"]) -> tuple[int, ...]:
    """Positions t whose own target, slot t + 1, is not zero in a table [t, j] of either kind."""
    return tuple(np.flatnonzero(np.diagonal(table, offset=1)).tolist())


def _check(config: DecoderConfig, tokens: Sequence[int], prompt_length: int) -> np.ndarray:
    ids = np.asarray(tokens, np.int32)[None]
    if ids.ndim != 2 or not 2 <= ids.shape[1] <= MOST_TOKENS:
        raise UserError(f"the flow needs one row of 2 to {MOST_TOKENS} tokens, got {ids.shape[1:]}")
    if not 1 <= prompt_length <= ids.shape[1]:
        raise UserError(f"prompt_length must be in 1..{ids.shape[1]}, got {prompt_length}")
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise UserError(f"token ids must be in 0..{config.vocab_size - 1}, got {ids.max()}")
    return ids


def _slots(length: int, prompt_length: int, *, num_rows: int = 1) -> Slots:
    return rows([length] * num_rows, length, [prompt_length] * num_rows)


@partial(jax.jit, static_argnames=("graph",))
def _gradients(
    graph: nnx.GraphDef,
    state: Any,
    tokens: Int[Array, "T T"],
    positions: Int[Array, "T T"],
    plan: MaskPlan,
) -> Float[Array, "T T"]:
    """Row t of the batch holds the whole sequence and counts the loss at position t alone."""
    decoder = nnx.merge(graph, state)
    here = jnp.arange(tokens.shape[1])

    def total_loss(x_TTD: Array) -> Array:
        out = decoder.transform(x_TTD, positions_BT=positions, attend=without_cache(plan))
        scores_TV = decoder.unembed(out.hidden[here, here][None])[0]
        following = jnp.append(tokens[0, 1:], jnp.argmax(scores_TV[-1]))
        return -jax.nn.log_softmax(scores_TV)[here, following].sum()

    gradient_TTD = jax.grad(total_loss)(decoder.embed(tokens))
    return jnp.linalg.norm(gradient_TTD.astype(jnp.float32), axis=-1)
