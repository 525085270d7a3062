"""Attention weights: how much each position attends to each other, layer by layer, head by head."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Slots, rows
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY, layer_masks
from jaxablate.kernels import reference
from jaxablate.language_model import as_mask
from jaxablate.masks.algebra import Mask
from jaxablate.models import rope
from jaxablate.models.config import DecoderConfig
from jaxablate.models.layout import unstack


def attention_weights(
    lm: Any,
    tokens: str | Sequence[int],
    mask: str | Mask = "causal",
    *,
    layers: Sequence[int] | None = None,
    prompt_length: int | None = None,
    policy: str = DEFAULT_WINDOW_POLICY,
) -> Float[np.ndarray, "L N T T"]:
    """Float32 weights [layer, query head, query, key] of one row of tokens.

    Each line of keys sums to 1 and is exactly 0.0 where the mask forbids. They are computed by the
    reference kernel, which keeps whole [T, T] tables, from the input that each layer then has.

    Args:
        lm: what `jaxablate.load` returns.
        tokens: a text, read without BOS, or token ids.
        mask: name, algebra or mask.
        layers: numbers of the layers wanted, in this order; None is all of them.
        prompt_length: how many tokens are prompt; None is all, as in a prefill.
        policy: what becomes of the model's own sliding window.

    Raises:
        UserError: for no tokens, an unknown layer, or a prompt longer than the tokens.
    """
    ids = np.asarray([lm.tokenizer.encode(tokens) if isinstance(tokens, str) else tokens])
    chosen = _choose_layers(layers, lm.config)
    _check(ids, prompt_length)
    prompts = None if prompt_length is None else [prompt_length]
    states = lm.hidden_states(
        ids, None, mask, prompts, window_policy=policy, kernel="reference"
    )  # layer l reads states[l]
    slots = rows([ids.shape[1]], ids.shape[1], prompts)
    rules = layer_masks(as_mask(mask), lm.config, policy)
    decoder = nnx.merge(lm.graph, lm.params)
    blocks = (unstack(decoder) if decoder.layout == "scan" else decoder).layers
    assert isinstance(blocks, nnx.List)
    with lm.precision():
        tables = [
            _weights(
                *nnx.split((blocks[layer].attention_norm, blocks[layer].attention)),
                states[layer],
                slots.position,
                _visible(rules[layer], layer, slots, lm.config),
                config=lm.config,
            )
            for layer in chosen
        ]
    return np.stack(tables)


def share_ahead(weights: Float[np.ndarray, "L N T T"]) -> Float[np.ndarray, "L N"]:
    """Share of a head's attention that goes to later positions, mean over queries; 0 if causal."""
    return np.triu(weights, 1).sum(axis=-1).mean(axis=-1)


def strongest_heads(
    weights: Float[np.ndarray, "L N T T"], *, query: int, key: int, count: int = 2
) -> list[tuple[int, int]]:
    """(layer, head) of the heads that attend most from one position to another, strongest first."""
    order = np.argsort(-weights[:, :, query, key], axis=None, kind="stable")[:count]
    layers, heads = np.unravel_index(order, weights.shape[:2])
    return list(zip(layers.tolist(), heads.tolist(), strict=True))


def _choose_layers(layers: Sequence[int] | None, config: DecoderConfig) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(config.num_layers))
    wrong = [layer for layer in layers if not 0 <= layer < config.num_layers]
    if wrong or not layers:
        raise UserError(f"layers must be some of 0..{config.num_layers - 1}, got {list(layers)}")
    return tuple(layers)


def _check(ids: np.ndarray, prompt_length: int | None) -> None:
    if ids.ndim != 2 or not ids.shape[1]:
        raise UserError(f"attention needs one row of tokens, got the shape {list(ids.shape[1:])}")
    if prompt_length is not None and not 0 <= prompt_length <= ids.shape[1]:
        raise UserError(f"prompt_length must be in 0..{ids.shape[1]}, got {prompt_length}")


def _visible(
    rule: Mask, layer: int, slots: Slots, config: DecoderConfig
) -> Bool[np.ndarray, "N T T"]:
    """What each head of a layer may see, by the mask's definition."""
    heads = range(config.num_heads if rule.selects_heads else 1)
    tables = [rule.materialise(slots, slots, layer=layer, head=head)[0] for head in heads]
    return np.broadcast_to(tables, (config.num_heads, *tables[0].shape))


@partial(jax.jit, static_argnames=("graph", "config"))
def _weights(
    graph: nnx.GraphDef,
    state: Any,
    x_BTD: Float[Array, "1 T D"],
    positions_BT: Int[Array, "1 T"],
    visible_NTT: Bool[Array, "N T T"],
    *,
    config: DecoderConfig,
) -> Float[Array, "N T T"]:
    """One layer's weights from what the layer reads; one program for all layers."""
    norm, attention = nnx.merge(graph, state)
    found: list[Array] = []

    def attend(layer: Any, q: Array, k: Array, v: Array, cache: Any) -> tuple[Array, Any]:
        del layer, v
        scale = config.head_dim**-0.5
        of_group = visible_NTT.reshape(1, k.shape[2], -1, *visible_NTT.shape[1:])
        found.append(reference.attention_weights(q, k, of_group, scale=scale))
        return jnp.zeros_like(q), cache

    rotation = rope.rotation(
        positions_BT,
        rope=config.rope,
        head_dim=config.head_dim,
        query_scale=config.query_scale,
        dtype=str(x_BTD.dtype),
    )
    attention(norm(x_BTD), rotation=rotation, attend=attend, layer=0, cache=None)
    return found[0].reshape(visible_NTT.shape)
