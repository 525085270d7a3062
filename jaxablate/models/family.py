"""Which family a Hugging Face config belongs to."""

from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.models.config import shorten
from jaxablate.models.families import FAMILIES, wrapper
from jaxablate.models.families.base import Family
from jaxablate.models.keyrules import KeyRule, ScaleNames, logical_axes, scale_names

__all__ = ["Family", "KeyRule", "ScaleNames", "family_of", "logical_axes", "scale_names"]


def family_of(hf_config: Any) -> Family:
    """The family of a config.json, by its model_type or, without one, by its architecture.

    Raises `UserError` for a model that is not known; the message lists those that are.
    """
    if not isinstance(hf_config, dict):
        raise UserError(f"config.json must hold an object, got {shorten(hf_config)}")
    if wrapper.is_wrapper(hf_config):
        model_type = wrapper.text_config(hf_config)["model_type"]
    else:
        model_type = hf_config.get("model_type", _by_architecture(hf_config))
    name = model_type if isinstance(model_type, str) else shorten(model_type)
    if name not in FAMILIES:
        raise unknown("model_type", name, [*FAMILIES, wrapper.MODEL_TYPE])
    return FAMILIES[name]


def _by_architecture(hf_config: dict) -> str | None:
    named = {family.architecture: family.name for family in FAMILIES.values()}
    architectures = hf_config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1:
        return None
    return named.get(str(architectures[0]))
