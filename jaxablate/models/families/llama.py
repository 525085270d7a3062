"""Llama 2, 3, 3.1, 3.2 and models of the same architecture (SmolLM2, TinyLlama, ...)."""

from typing import Any

from jaxablate.models.config import DecoderConfig
from jaxablate.models.families.base import Family
from jaxablate.models.hf_keys import Keys


def _read(keys: Keys, num_layers: int) -> dict[str, Any]:
    bias = keys.flag("attention_bias")
    return {
        "qkv_bias": bias,
        "o_bias": bias,
        "mlp_bias": keys.flag("mlp_bias"),
        "windows": (None,) * num_layers,
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    return {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}


LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
    },
    own_keys=frozenset({"attention_bias", "mlp_bias"}),
    read=_read,
    write=_write,
    fixed={"sliding_window": (None,)},
)
