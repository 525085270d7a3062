"""Configs of published models are read as their repositories mean them."""

import math

import pytest

from jaxablate.models.config import QueryScale
from jaxablate.models.decoder import abstract
from jaxablate.models.family import family_of, scale_names
from jaxablate.models.layout import by_path
from jaxablate.models.rope import attention_factor, inverse_frequencies
from tests.models.published import LLAMA_31_8B, MINISTRAL_3B, QWEN25_7B


def read(source):
    return family_of(source).from_hf(source)


@pytest.mark.parametrize(
    ("source", "billions"), [(MINISTRAL_3B, 3.43), (LLAMA_31_8B, 8.03), (QWEN25_7B, 7.62)]
)
def test_decoder_has_the_published_number_of_weights(source, billions):
    shapes = by_path(abstract(read(source), dtype="bfloat16", layout="scan")).values()
    assert sum(math.prod(leaf.shape) for leaf in shapes) / 1e9 == pytest.approx(billions, abs=0.005)


def test_ministral_keeps_its_head_width_and_scales_queries_beyond_its_original_context():
    config = read(MINISTRAL_3B)
    assert (config.family, config.head_dim, config.num_heads) == ("ministral3", 128, 32)
    assert config.tied
    assert (config.bos_id, config.eos_ids, config.pad_id) == (1, (2,), 11)
    assert config.windows == (None,) * 26
    assert config.query_scale == QueryScale(beta=0.1, original_max_position_embeddings=16384)
    assert attention_factor(config.rope) == 1.0


def test_ministral_scales_are_found_beside_their_weights():
    family, config = family_of(MINISTRAL_3B), read(MINISTRAL_3B)
    assert family.is_quantised(config)
    name = family.hf_names(config)["layers/7/attention/k/weight"]
    assert name == "language_model.model.layers.7.self_attn.k_proj.weight"
    assert scale_names(name) == (
        "language_model.model.layers.7.self_attn.k_proj.weight_scale_inv",
        "language_model.model.layers.7.self_attn.k_proj.activation_scale",
    )


def test_yarn_ramp_of_ministral_runs_from_pair_20_to_pair_37():
    rope = read(MINISTRAL_3B).rope
    plain = 1e6 ** -(2 * 20 / 128)
    frequencies = inverse_frequencies(rope, 128)
    assert frequencies[20] == pytest.approx(plain, rel=1e-6)
    assert frequencies[21] < 1e6 ** -(2 * 21 / 128) * 0.99
    assert frequencies[37] == pytest.approx(1e6 ** -(2 * 37 / 128) / 16, rel=1e-6)


def test_qwen_window_is_off_unless_it_is_used():
    config = read(QWEN25_7B)
    assert config.windows == (None,) * 28
    assert (config.qkv_bias, config.o_bias) == (True, False)
    windowed = read({**QWEN25_7B, "use_sliding_window": True, "max_window_layers": 26})
    assert windowed.windows == (None,) * 26 + (131072,) * 2


def test_llama_has_three_end_tokens_and_long_wavelengths_are_stretched():
    config = read(LLAMA_31_8B)
    assert config.eos_ids == (128001, 128008, 128009)
    assert config.head_dim == 128
    frequencies = inverse_frequencies(config.rope, 128)
    assert frequencies[0] == 1.0
    assert frequencies[-1] == pytest.approx(500000.0 ** (-126 / 128) / 8, rel=1e-6)


@pytest.mark.parametrize("source", [MINISTRAL_3B, LLAMA_31_8B, QWEN25_7B])
def test_what_is_ignored_is_listed_with_a_reason(source):
    ignored = family_of(source).ignored_keys(source)
    assert "transformers_version" in ignored
    assert all(ignored.values())
    assert "vision_config" in ignored or source is not MINISTRAL_3B


def test_images_tensors_are_ignored_in_the_wrapper_only():
    wrapped, plain = read(MINISTRAL_3B), read(LLAMA_31_8B)
    name = "vision_tower.transformer.layers.0.attention.q_proj.weight"
    assert family_of(MINISTRAL_3B).ignored_tensor(wrapped, name)
    assert family_of(LLAMA_31_8B).ignored_tensor(plain, name) is None
    assert family_of(LLAMA_31_8B).ignored_tensor(plain, "model.layers.0.rotary_emb.inv_freq")


def test_text_tower_is_written_alone():
    family, config = family_of(MINISTRAL_3B), read(MINISTRAL_3B)
    alone = family.text_tower(config)
    assert alone == config
    written = family.to_hf(alone, dtype="bfloat16")
    assert written["architectures"] == ["Ministral3ForCausalLM"]
    assert written["dtype"] == "bfloat16"
    assert not {"quantization_config", "vision_config", "text_config"} & written.keys()
    assert family.hf_names(alone)["embedding/weight"] == "model.embed_tokens.weight"
    assert not family.is_quantised(alone)
