"""Qwen2 and Qwen2.5: biases on queries, keys and values; windows from a layer on."""

from typing import Any

from jaxablate.models.families.base import Family
from jaxablate.models.families.windows import LAYERED_KEYS, read_layered, write_layered
from jaxablate.models.hf_keys import Keys


def _read(keys: Keys, num_layers: int) -> dict[str, Any]:
    return {"qkv_bias": True, "windows": read_layered(keys, num_layers)}


QWEN2 = Family(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    defaults={
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
    own_keys=LAYERED_KEYS,
    read=_read,
    write=write_layered,
)
