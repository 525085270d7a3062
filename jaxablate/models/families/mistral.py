"""Mistral 7B and its successors: Llama's blocks with one sliding window for all layers."""

from typing import Any

from jaxablate.models.families.base import Family
from jaxablate.models.families.windows import read_uniform, write_uniform
from jaxablate.models.hf_keys import Keys


def _read(keys: Keys, num_layers: int) -> dict[str, Any]:
    return {"windows": read_uniform(keys, num_layers)}


MISTRAL = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
    },
    own_keys=frozenset({"sliding_window"}),
    read=_read,
    write=write_uniform,
)
