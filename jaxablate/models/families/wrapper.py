"""The image-text wrapper "mistral3", whose text tower is a mistral or a ministral3 decoder."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.models.config import shorten
from jaxablate.models.hf_keys import FIXED, IGNORED, check_dtype, check_fixed, check_known, words
from jaxablate.models.keyrules import KeyRule

MODEL_TYPE = "mistral3"
ARCHITECTURE = "Mistral3ForConditionalGeneration"

_IMAGES = "images are not part of the text tower"
_HANDLED = words("""
    model_type architectures text_config tie_word_embeddings quantization_config dtype torch_dtype
    bos_token_id eos_token_id pad_token_id
""")
_IMAGE_KEYS = words("""
    vision_config image_token_index image_token_id projector_hidden_act vision_feature_layer
    multimodal_projector_bias spatial_merge_size
""")
IGNORED_KEYS = {**IGNORED, **dict.fromkeys(_IMAGE_KEYS, _IMAGES)}
_IMAGE_TENSORS = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def is_wrapper(source: Mapping[str, Any]) -> bool:
    """The config describes an image-text model."""
    named = source.get("architectures") == [ARCHITECTURE]
    return source.get("model_type", MODEL_TYPE if named else None) == MODEL_TYPE


def ignored_tensor(name: str) -> str | None:
    """Why a tensor of the wrapper's file is not read; None if it has to be."""
    return _IMAGES if name.startswith(_IMAGE_TENSORS) else None


def text_config(source: Mapping[str, Any]) -> dict[str, Any]:
    """The text tower's own config, with what the wrapper says about tying, ids and precision."""
    check_known(source, _HANDLED | FIXED.keys() | IGNORED_KEYS.keys(), MODEL_TYPE)
    check_fixed(source, FIXED)
    check_dtype(source)
    text = source.get("text_config")
    if not isinstance(text, Mapping):
        raise UserError(f"text_config must be an object, got {shorten(text)}")
    outer = {key: source[key] for key in (*_TOKEN_IDS, "quantization_config") if key in source}
    # Transformers ties by the wrapper's key, whose default is true, and not by the text tower's.
    tied = source.get("tie_word_embeddings", True)
    text = {"model_type": "mistral", **outer, **text, "tie_word_embeddings": tied}
    text.pop("architectures", None)  # the wrapper's names the model
    return text


def wrap(source: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """The wrapper's config around a new text config."""
    dropped = {"torch_dtype", "quantization_config", "auto_map"}
    outer = {key: value for key, value in source.items() if key not in dropped}
    tied = text["tie_word_embeddings"]
    inner = {key: value for key, value in text.items() if key != "architectures"}
    return {**outer, "text_config": inner, "tie_word_embeddings": tied}


def wrap_rule(rule: KeyRule) -> KeyRule:
    """The rule for a tensor of the text tower inside the wrapper's file."""
    inside = rule.hf.replace("model.", "model.language_model.", 1)  # lm_head stays at the top
    return replace(rule, hf=f"language_model.{rule.hf}", aliases=(inside, *rule.aliases))
