"""Ministral 3 and Devstral 2: YaRN, queries that grow with position, FP8 files."""

from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.models.config import DecoderConfig, QueryScale
from jaxablate.models.families.base import Family
from jaxablate.models.families.windows import read_uniform, write_uniform
from jaxablate.models.hf_keys import Keys, number
from jaxablate.models.hf_rope import parameters_of

_BETA, _ORIGINAL = "llama_4_scaling_beta", "original_max_position_embeddings"


def _read(keys: Keys, num_layers: int) -> dict[str, Any]:
    parameters = parameters_of(keys)
    if parameters.get(_BETA) is None:
        raise UserError(f"rope_parameters of ministral3 need {_BETA}, got {sorted(parameters)}")
    # Transformers fills in the original length for YaRN; other kinds have to state it.
    original = parameters.get(_ORIGINAL)
    if original is None:
        original = keys.get("max_position_embeddings")
    scale = QueryScale(
        beta=number(_BETA, parameters[_BETA]), original_max_position_embeddings=original
    )
    return {"windows": read_uniform(keys, num_layers), "query_scale": scale}


def _write(config: DecoderConfig) -> dict[str, Any]:
    if config.query_scale is None:
        raise UserError("ministral3 files state a query scale, this decoder has none")
    scale = {
        _BETA: config.query_scale.beta,
        _ORIGINAL: config.query_scale.original_max_position_embeddings,
    }
    return {**write_uniform(config), "rope_parameters": scale}


MINISTRAL3 = Family(
    name="ministral3",
    architecture="Ministral3ForCausalLM",
    defaults={
        "vocab_size": 131072,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 34,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 11,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    },
    own_keys=frozenset({"sliding_window"}),
    read=_read,
    write=_write,
    rope_keys=frozenset({_BETA, _ORIGINAL, "max_position_embeddings"}),
    fp8=True,
)
