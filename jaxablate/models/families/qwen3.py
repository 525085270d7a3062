"""Qwen3: queries and keys are normalised over each head before they are rotated."""

from typing import Any

from jaxablate.models.config import DecoderConfig
from jaxablate.models.families.base import Family
from jaxablate.models.families.windows import LAYERED_KEYS, read_layered, write_layered
from jaxablate.models.hf_keys import Keys


def _read(keys: Keys, num_layers: int) -> dict[str, Any]:
    bias = keys.flag("attention_bias")
    windows = read_layered(keys, num_layers)
    return {"qkv_bias": bias, "o_bias": bias, "qk_norm": True, "windows": windows}


def _write(config: DecoderConfig) -> dict[str, Any]:
    return {**write_layered(config), "attention_bias": config.qkv_bias}


QWEN3 = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    defaults={
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
    own_keys=LAYERED_KEYS | {"attention_bias"},
    read=_read,
    write=_write,
)
