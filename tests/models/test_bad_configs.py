"""A wrong config.json is refused in one sentence: the key, what it holds, what would fit."""

import math

import pytest

from jaxablate.core.errors import UserError
from jaxablate.models.family import family_of
from tests.models.published import LLAMA_31_8B, MINISTRAL_3B, QWEN25_7B

YARN = MINISTRAL_3B["text_config"]["rope_parameters"]
LAYERED = {**QWEN25_7B, "use_sliding_window": True}


def without(source, key):
    return {name: value for name, value in source.items() if name != key}


def rope(**values):
    return {"rope_theta": None, "rope_scaling": None, "rope_parameters": values}


# key=value over Llama 3.1 -> what the message says
LLAMA_CASES = {
    "unknown model": ({"model_type": "gemma3"}, "'gemma3'.*llama.*mistral3.*qwen3"),
    "model type is a number": ({"model_type": 3}, "model_type.*3"),
    "near miss": ({"model_type": "qwen-3"}, "did you mean 'qwen3'"),
    "unknown architecture": ({"architectures": ["GPT2LMHeadModel"]}, "LlamaForCausalLM.*GPT2"),
    "two architectures": (
        {"architectures": ["LlamaForCausalLM", "MistralForCausalLM"]},
        "architectures must be",
    ),
    "architecture is text": ({"architectures": "LlamaForCausalLM"}, "architectures must be"),
    "base model": ({"architectures": ["LlamaModel"]}, "LlamaForCausalLM"),
    "width 0": ({"hidden_size": 0}, "hidden_size must be an integer from 1.* got 0"),
    "width negative": ({"hidden_size": -4096}, "hidden_size.*-4096"),
    "width text": ({"hidden_size": "4096"}, "hidden_size.*'4096'"),
    "width float": ({"hidden_size": 4096.0}, "hidden_size.*4096.0"),
    "width true": ({"hidden_size": True}, "hidden_size.*True"),
    "width null": ({"hidden_size": None}, "hidden_size.*None"),
    "width huge": ({"hidden_size": 2**40}, "hidden_size.*1099511627776"),
    "width of 5000 digits": ({"hidden_size": 10**5000}, "hidden_size.*16610 bits"),
    "width not divisible": ({"hidden_size": 4097}, "hidden_size.*num_attention_heads 32.*4097"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads.*got 0"),
    "kv heads do not divide": ({"num_key_value_heads": 5}, "num_key_value_heads.*32.*got 5"),
    "more kv heads than heads": ({"num_key_value_heads": 64}, "num_key_value_heads.*32.*64"),
    "odd head width": ({"head_dim": 127}, "head_dim must be even.*127"),
    "head width 0": ({"head_dim": 0}, "head_dim.*got 0"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers.*got 0"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers.*1000000000"),
    "no vocabulary": ({"vocab_size": 0}, "vocab_size.*got 0"),
    "theta 0": ({"rope_theta": 0}, "rope_theta.*above 0.*got 0"),
    "theta negative": ({"rope_theta": -1.0}, "rope_theta.*-1.0"),
    "theta text": ({"rope_theta": "1e4"}, "rope_theta must be a number, got '1e4'"),
    "theta not a number": ({"rope_theta": math.nan}, "rope_theta.*finite"),
    "theta infinite": ({"rope_theta": math.inf}, "rope_theta.*finite.*inf"),
    "theta of 5000 digits": ({"rope_theta": 10**5000}, "rope_theta.*finite.*bits"),
    "unknown rope": (rope(rope_type="dynamic", factor=2.0), "rope type 'dynamic'.*yarn"),
    "rope type is a list": (rope(rope_type=["yarn"]), "rope type.*yarn"),
    "rope is text": ({"rope_scaling": "yarn"}, "rope_scaling must be an object or null"),
    "rope without factor": (rope(rope_type="linear"), "linear needs factor"),
    "rope factor 0": (rope(rope_type="linear", factor=0), "rope factor.*above 0"),
    "rope factor text": (rope(rope_type="linear", factor="2"), "factor must be a number"),
    "rope key unknown": (rope(rope_type="linear", factor=2.0, betafast=1), "betafast"),
    "rope by layer type": (rope(full_attention={}), "full_attention"),
    "rope bands crossed": (
        rope(rope_type="llama3", factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0),
        "high_freq_factor must be above low_freq_factor",
    ),
    "rope contradiction": (
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        "rope_scaling and rope_parameters differ",
    ),
    "partial rotary": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1.*0.5"),
    "partial rotary inside": (rope(partial_rotary_factor=0.5), "partial_rotary_factor.*0.5"),
    "interleaved rotary": ({"rope_interleaved": True}, "rope_interleaved must be False"),
    "tie is text": ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false"),
    "unknown activation": ({"hidden_act": "gelu"}, "hidden_act must be 'silu'.*'gelu'"),
    "quantised": ({"quantization_config": {"quant_method": "awq"}}, "quantization_config.*awq"),
    "fp8 llama": (
        {"quantization_config": MINISTRAL_3B["quantization_config"]},
        "quantization_config: llama has none, got 'fp8'",
    ),
    "unknown dtype": ({"torch_dtype": "float8"}, "dtype 'float8'"),
    "dtype is a number": ({"dtype": 16}, "dtype must be the name of a dtype, got 16"),
    "window in llama": ({"sliding_window": 4096}, "sliding_window must be None, got 4096"),
    "end token outside": ({"eos_token_id": 128256}, "eos_token_id.*128256"),
    "end token negative": ({"eos_token_id": [1, -5]}, r"eos_token_id\[1\].*-5"),
    "end token text": ({"eos_token_id": "</s>"}, "eos_token_id must be an integer"),
    "start token outside": ({"bos_token_id": 200000}, "bos_token_id.*200000"),
    "no positions": ({"max_position_embeddings": 0}, "max_position_embeddings.*got 0"),
    "eps 0": ({"rms_norm_eps": 0.0}, "rms_norm_eps.*above 0"),
    "eps text": ({"rms_norm_eps": "1e-5"}, "rms_norm_eps must be a number"),
    "bias is a number": ({"attention_bias": 1}, "attention_bias must be true or false"),
    "invented key": ({"hiden_size": 1}, "'hiden_size'; did you mean 'hidden_size'"),
    "encoder and decoder": ({"is_encoder_decoder": True}, "is_encoder_decoder must be False"),
    "bidirectional in the config": ({"is_causal": False}, "is_causal must be True"),
}

OTHER_CASES = {
    "null": (None, "must hold an object, got None"),
    "list": ([], r"must hold an object, got \[\]"),
    "empty": ({}, "model_type"),
    "no model type": (
        without(without(LLAMA_31_8B, "model_type"), "architectures"),
        "unknown model_type",
    ),
    "window negative": ({**LAYERED, "sliding_window": -1, "max_window_layers": 0}, "got -1"),
    "window 0": ({"model_type": "mistral", "sliding_window": 0}, "sliding_window.*got 0"),
    "window text": ({"model_type": "mistral", "sliding_window": "7"}, "sliding_window.*integer"),
    "layer types short": ({**LAYERED, "layer_types": ["full_attention"]}, "list of 28 kinds"),
    "layer type unknown": (
        {**LAYERED, "layer_types": ["linear_attention"] * 28},
        "layer type 'linear_attention'.*full_attention",
    ),
    "sliding layers without a window": (
        {**QWEN25_7B, "layer_types": ["sliding_attention"] * 28},
        "use_sliding_window",
    ),
    "no query scale": (
        {"model_type": "ministral3", "rope_parameters": without(YARN, "llama_4_scaling_beta")},
        "llama_4_scaling_beta",
    ),
    "query scale negative": (
        {"model_type": "ministral3", "rope_parameters": {**YARN, "llama_4_scaling_beta": -1.0}},
        "llama_4_scaling_beta.*-1.0",
    ),
    "yarn original 0": (
        {
            "model_type": "ministral3",
            "rope_parameters": {**YARN, "original_max_position_embeddings": 0},
        },
        "original_max_position_embeddings.*got 0",
    ),
    "dynamic fp8": (
        {
            **MINISTRAL_3B,
            "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"},
        },
        "quantization_config.*static.*dynamic",
    ),
    "blockwise fp8": (
        {
            **MINISTRAL_3B,
            "quantization_config": {
                **MINISTRAL_3B["quantization_config"],
                "weight_block_size": [128, 128],
            },
        },
        "weight_block_size.*128",
    ),
    "wrapper without text": (without(MINISTRAL_3B, "text_config"), "text_config.*None"),
    "wrapper around gemma": (
        {**MINISTRAL_3B, "text_config": {"model_type": "gemma3_text"}},
        "unknown model_type 'gemma3_text'",
    ),
    "wrapper key unknown": ({**MINISTRAL_3B, "image_tokens": 3}, "'image_tokens'.*image_token_i"),
    "text tower key unknown": (
        {**MINISTRAL_3B, "text_config": {**MINISTRAL_3B["text_config"], "experts": 8}},
        "'experts'",
    ),
}


def read(source):
    return family_of(source).from_hf(source)


def check(source, says):
    with pytest.raises(UserError, match=says) as error:
        read(source)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", LLAMA_CASES)
def test_wrong_value_in_a_llama_config_is_refused(name):
    changes, says = LLAMA_CASES[name]
    check({**LLAMA_31_8B, **changes}, says)


@pytest.mark.parametrize("name", OTHER_CASES)
def test_wrong_config_is_refused(name):
    source, says = OTHER_CASES[name]
    check(source, says)


def test_code_in_the_folder_is_ignored_when_the_model_is_one_of_ours():
    source = {**LLAMA_31_8B, "auto_map": {"AutoModelForCausalLM": "modeling_evil.Model"}}
    assert read(source) == read(LLAMA_31_8B)
    assert "never run" in family_of(source).ignored_keys(source)["auto_map"]
    assert "auto_map" not in family_of(source).to_hf(read(source))


def test_a_config_of_another_family_is_refused():
    from jaxablate.models.families import get

    with pytest.raises(UserError, match="model_type must be llama, got 'qwen2'"):
        get("llama").from_hf(QWEN25_7B)
    with pytest.raises(UserError, match="unknown model family 'qwen'"):
        get("qwen")


@pytest.mark.parametrize("source", [LLAMA_31_8B, MINISTRAL_3B, QWEN25_7B])
def test_without_a_model_type_the_architecture_decides(source):
    assert read(without(source, "model_type")) == read(source)
