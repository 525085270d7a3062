"""What decoders are compared with: a dense attention, and transformers with the same mask."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxablate.models.cache import LayerCache
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder
from jaxablate.models.family import family_of
from jaxablate.models.layout import build, stack

T = 24
LENGTHS = (24, 15, 9)
PROMPTS = (11, 15, 1)


def masks() -> dict[str, np.ndarray]:
    """Boolean masks [B, T, T] over rows of different lengths, True = may attend."""
    query, key = np.arange(T)[None, :, None], np.arange(T)[None, None, :]
    real = key < np.asarray(LENGTHS)[:, None, None]
    prompt = np.asarray(PROMPTS)[:, None, None]
    causal = np.broadcast_to(key <= query, (len(LENGTHS), T, T))
    return {
        "causal": causal,
        "padded": causal & real,
        "bidirectional": np.broadcast_to(real, causal.shape),
        "prefix_lm": (causal | ((query < prompt) & (key < prompt))) & real,
    }


def with_windows(mask: np.ndarray, config: DecoderConfig) -> np.ndarray:
    """The mask of each layer, [L, B, T, S]: the model's own windows cut the past."""
    query, key = np.arange(mask.shape[1])[:, None], np.arange(mask.shape[2])[None, :]
    wide = mask.shape[2]
    return np.stack([mask & (key > query - (window or wide)) for window in config.windows])


def dense_attend(mask_LBTS: Any, *, at: int = 0) -> Any:
    """Attention by the definition, in float32; keys go into the cache at `at` if there is one."""

    def attend(layer: Any, q: Any, k: Any, v: Any, cache: LayerCache | None) -> tuple:
        if cache is not None:
            cache = cache.insert(k, v, at)
            k, v = cache
        group = q.shape[2] // k.shape[2]
        wide = (
            x.astype(jnp.float32) for x in (q, jnp.repeat(k, group, 2), jnp.repeat(v, group, 2))
        )
        query, key, value = wide
        scores = jnp.einsum("btnh,bsnh->bnts", query, key) * q.shape[-1] ** -0.5
        scores = jnp.where(mask_LBTS[layer][:, None], scores, jnp.finfo(jnp.float32).min)
        out = jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores), value)
        return out.astype(q.dtype), cache

    return attend


def ours(model: Any, hf_config: dict, *, layout: str = "loop", dtype: str = "float32") -> Decoder:
    """Our decoder with a torch model's weights, moved by the family's own table of names."""
    family = family_of(hf_config)
    config = family.from_hf(hf_config)
    tensors = model.state_dict()
    arrays = {
        path: jnp.asarray(tensors[name].float().numpy(), dtype)
        for path, name in family.hf_names(config).items()
    }
    decoder = build(config, arrays)
    if layout == "loop":
        return decoder
    return stack(decoder)


def tokens(vocab_size: int, *, length: int = T) -> np.ndarray:
    """Random rows of tokens, one for each of LENGTHS."""
    return np.random.default_rng(0).integers(0, vocab_size, (len(LENGTHS), length))


def positions(length: int = T, *, start: int = 0, rows: int = len(LENGTHS)) -> np.ndarray:
    """Row indices from `start` on, as int32."""
    line = np.arange(start, start + length, dtype=np.int32)
    return np.broadcast_to(line, (rows, length))


def hf_outputs(model: Any, rows: np.ndarray, mask_LBTS: np.ndarray) -> tuple[np.ndarray, list]:
    """Logits and hidden states of transformers' eager attention under an additive 4D mask."""
    import torch

    lowest = torch.finfo(model.dtype).min
    bias = torch.where(torch.tensor(mask_LBTS)[:, :, None], 0.0, lowest).to(model.dtype)
    kinds = getattr(model.config, "layer_types", None)
    mask = bias[0]
    if kinds:  # one mask for each kind of layer
        mask = {kind: bias[kinds.index(kind)] for kind in set(kinds)}
        mask = {"full_attention": bias[0], "sliding_attention": bias[-1], **mask}
    with torch.no_grad():
        out = model(torch.tensor(rows), attention_mask=mask, output_hidden_states=True)
    states = [state.float().numpy() for state in out.hidden_states]
    return out.logits.float().numpy(), states
