"""Rotary settings of a Hugging Face config, in the v4 spelling and the v5 one."""

from collections.abc import Mapping
from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.models.config import ROPE_KINDS, RopeConfig
from jaxablate.models.hf_keys import Keys, check_fixed, check_known, flag, integer, number, words

DEFAULT_THETA = 10_000.0

_NAMES = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
_REQUIRED: Mapping[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor"}),
    "yarn": frozenset({"factor"}),
}
_OPTIONAL: Mapping[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset(),
    "llama3": frozenset({"original_max_position_embeddings"}),
    "yarn": words("""
        original_max_position_embeddings beta_fast beta_slow mscale mscale_all_dim truncate
        attention_factor
    """),
}
# A null among these means "as if the key were absent".
_NULLABLE = frozenset({"mscale", "mscale_all_dim", "attention_factor", "beta_fast", "beta_slow"})


def parameters_of(keys: Keys) -> dict[str, Any]:
    """The one dictionary of rotary parameters, from `rope_parameters` or `rope_scaling`."""
    old, new = keys.mapping("rope_scaling"), keys.mapping("rope_parameters")
    default = keys.defaults.get("rope_parameters")
    if old and new and old != new:
        raise UserError("rope_scaling and rope_parameters differ: give one of them")
    parameters = dict(old or new or default or {})
    if parameters.get("rope_theta") is None:
        theta = keys.get("rope_theta")
        parameters["rope_theta"] = DEFAULT_THETA if theta is None else theta
    return parameters


def read_rope(
    parameters: Mapping[str, Any], *, max_position_embeddings: int, extra: frozenset[str]
) -> RopeConfig:
    """The rotary config; `extra` are keys that the family reads itself."""
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind not in ROPE_KINDS:
        raise unknown("rope type", kind, ROPE_KINDS)
    allowed = _REQUIRED[kind] | _OPTIONAL[kind]
    check_known(parameters, _NAMES | allowed | extra, f"rope type {kind}")
    check_fixed(parameters, {"partial_rotary_factor": (1, None)})
    fields: dict[str, Any] = {"theta": number("rope_theta", parameters["rope_theta"])}
    for key in sorted(allowed):
        value = parameters.get(key)
        if value is not None:
            fields[key] = _READERS.get(key, number)(key, value)
        elif key in _REQUIRED[kind]:
            raise UserError(f"rope type {kind} needs {key}, got rope keys {sorted(parameters)}")
        elif key == "original_max_position_embeddings":
            fields[key] = max_position_embeddings
        elif key in parameters and key not in _NULLABLE:
            raise UserError(f"rope {key} must not be null")
    return RopeConfig(kind=kind, **fields)


def write_rope(rope: RopeConfig) -> dict[str, Any]:
    """`rope_parameters` as version 5 writes them; optional keys at their default are left out."""
    written = {"rope_type": rope.kind, "rope_theta": rope.theta}
    written |= {key: getattr(rope, key) for key in sorted(_REQUIRED[rope.kind])}
    for key in sorted(_OPTIONAL[rope.kind]):
        value = getattr(rope, key)
        if value != getattr(RopeConfig(), key):
            written[key] = value
    return written


_READERS = {"original_max_position_embeddings": integer, "truncate": flag}
