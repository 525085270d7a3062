"""A decoder's weights by path, and the way between the layouts "loop" and "scan"."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PyTree

from jaxablate.core.errors import UserError
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder

_LAYERS = "layers/"


def weights(decoder: Decoder) -> dict[str, Array]:
    """Every weight by its path, such as "layers/0/attention/q/weight".

    Raises `UserError` for a decoder with LoRA attached: its weights alone are another model.
    """
    arrays = by_path(nnx.state(decoder))
    if any("/update/" in path for path in arrays):
        raise UserError("this decoder has LoRA attached; merge the LoRA into the weights instead")
    return arrays


def by_path(state: PyTree) -> dict[str, Any]:
    """The leaves of a decoder's state (arrays, or shapes of an abstract one) by path."""
    return {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def build(config: DecoderConfig, weights: Mapping[str, Array], *, layout: str = "loop") -> Decoder:
    """A decoder that holds exactly these arrays; nothing else is allocated.

    Raises `UserError` for a path that is missing or too much, and for a wrong shape.
    """
    graph, flat, wanted = _skeleton(config, layout, repr(config.source))
    _check_paths(wanted, weights)
    leaves = [leaf.replace(weights["/".join(map(str, path))]) for path, leaf in flat]
    return nnx.merge(graph, nnx.from_flat_state(list(zip(flat.paths, leaves, strict=True))))


@lru_cache(maxsize=16)
def _skeleton(config: DecoderConfig, layout: str, source: str) -> tuple[Any, Any, dict[str, Any]]:
    """A decoder without arrays: its graph, its flat state, and the shapes by path.

    Every trace of a step builds one. `source` is in the key because configs that differ in it
    alone are equal, and the graph holds the config.
    """
    del source
    shapes = nnx.eval_shape(lambda: Decoder(config, dtype="float32", layout=layout))
    graph, state = nnx.split(shapes)
    return graph, nnx.to_flat_state(state), by_path(state)


def stack(decoder: Decoder) -> Decoder:
    """The same decoder in the layout "scan"."""
    return build(decoder.config, stack_paths(weights(decoder)), layout="scan")


def unstack(decoder: Decoder) -> Decoder:
    """The same decoder in the layout "loop"."""
    return build(decoder.config, unstack_paths(weights(decoder)), layout="loop")


def stack_paths(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Joins "layers/{i}/..." of all layers to one array "layers/..." each."""
    stacked = {path: array for path, array in weights.items() if not path.startswith(_LAYERS)}
    layers: dict[str, dict[int, Array]] = {}
    for path in weights.keys() - stacked.keys():
        number, _, rest = path.removeprefix(_LAYERS).partition("/")
        layers.setdefault(rest, {})[int(number)] = weights[path]
    for rest, arrays in layers.items():
        stacked[_LAYERS + rest] = jnp.stack([arrays[number] for number in sorted(arrays)])
    return stacked


def unstack_paths(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Splits "layers/..." of the layout "scan" into "layers/{i}/..."."""
    apart = {}
    for path, array in weights.items():
        if not path.startswith(_LAYERS):
            apart[path] = array
            continue
        for number in range(array.shape[0]):
            apart[f"{_LAYERS}{number}/{path.removeprefix(_LAYERS)}"] = array[number]
    return apart


def _check_paths(wanted: Mapping[str, Any], got: Mapping[str, Array]) -> None:
    missing, extra = sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys())
    if missing or extra:
        raise UserError(f"weights do not fit the decoder: missing {missing}, unexpected {extra}")
    for path, shape in wanted.items():
        if got[path].shape != shape.shape:
            raise UserError(f"{path} must have shape {shape.shape}, got {got[path].shape}")
