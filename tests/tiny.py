"""Tiny random Hugging Face models of every family, for tests that compare with transformers."""

from pathlib import Path
from typing import Any

import pytest

COMMON = {
    "vocab_size": 131,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-5,
}

YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}

# What makes each family itself. Window and query scale act well inside a sequence of 64.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_act": "silu"},
    "mistral": {"sliding_window": 7, "head_dim": 12},
    "ministral3": {"head_dim": 16, "rope_parameters": YARN, "tie_word_embeddings": True},
    "qwen2": {
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 2,
        "tie_word_embeddings": True,
    },
    "qwen3": {"head_dim": 16, "use_sliding_window": False},
}


def tiny_hf(family: str, **overrides: Any) -> tuple[Any, Any]:
    """A transformers config and a float32 torch model with random weights, in eval mode.

    Norms and biases are random as well, so that a weight in the wrong place shows.
    """
    pytest.importorskip("transformers")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**COMMON, **FAMILIES[family], **overrides})
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if name.endswith("norm.weight") else 0.0
            weight.normal_(centre, 0.1 if weight.ndim == 1 else 0.15)
    return config, model


def save_tiny(family: str, folder: Path, **overrides: Any) -> tuple[Any, Any]:
    """Writes `tiny_hf` with transformers' own save_pretrained."""
    config, model = tiny_hf(family, **overrides)
    model.save_pretrained(folder)
    return config, model
