"""Sliding windows of a model itself, from the two ways in which configs state them."""

from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.models.config import DecoderConfig, shorten
from jaxablate.models.hf_keys import Keys, words

LAYERED_KEYS = words("use_sliding_window sliding_window max_window_layers layer_types")

Windows = tuple[int | None, ...]

_SLIDING, _FULL = "sliding_attention", "full_attention"


def read_uniform(keys: Keys, num_layers: int) -> Windows:
    """`sliding_window` holds for every layer; null means none."""
    return (keys.integer_or_none("sliding_window"),) * num_layers


def write_uniform(config: DecoderConfig) -> dict[str, Any]:
    """The one window of all layers."""
    return {"sliding_window": _only_window(config, config.windows)}


def read_layered(keys: Keys, num_layers: int) -> Windows:
    """Qwen's rule: only with `use_sliding_window`, and only the layers that `layer_types` names.

    Without `layer_types` these are the layers from `max_window_layers` on.
    """
    used = keys.flag("use_sliding_window")
    window = keys.integer_or_none("sliding_window") if used else None
    kinds = _layer_types(keys, num_layers)
    if kinds is None:
        first = keys.integer_or_none("max_window_layers") or 0
        return tuple(window if layer >= first else None for layer in range(num_layers))
    if _SLIDING in kinds and window is None:
        raise UserError(
            f"layer_types names {_SLIDING}, which needs use_sliding_window true and a "
            f"sliding_window, got {used} and {keys.get('sliding_window')}"
        )
    return tuple(window if kind == _SLIDING else None for kind in kinds)


def write_layered(config: DecoderConfig) -> dict[str, Any]:
    """The window and the kind of each layer."""
    used = [window for window in config.windows if window is not None]
    kinds = [_FULL if window is None else _SLIDING for window in config.windows]
    written = {"use_sliding_window": bool(used), "layer_types": kinds}
    return written | ({"sliding_window": _only_window(config, used)} if used else {})


def _layer_types(keys: Keys, num_layers: int) -> list[str] | None:
    kinds = keys.get("layer_types")
    if kinds is None:
        return None
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise UserError(f"layer_types must be a list of {num_layers} kinds, got {shorten(kinds)}")
    for kind in kinds:
        if kind not in (_SLIDING, _FULL):
            raise unknown("layer type", kind, (_SLIDING, _FULL))
    return kinds


def _only_window(config: DecoderConfig, windows: Windows | list[int]) -> int | None:
    different = set(windows)
    if len(different) > 1:
        raise UserError(
            f"{config.family} files can state one sliding window, got {sorted(map(str, different))}"
        )
    return different.pop()
