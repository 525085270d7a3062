"""A training state as named arrays, for a checkpoint, and back.

Frozen weights are not among them: they are those of the base checkpoint.
"""

import hashlib
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Array

from jaxablate.training.state import TrainState


def to_arrays(state: TrainState) -> dict[str, Array]:
    """The arrays of a state by name, such as "params/embedding/weight" or "step"."""
    leaves = jax.tree_util.tree_flatten_with_path(state._replace(frozen={}))[0]
    arrays = {"/".join(map(_word, path)): leaf for path, leaf in leaves}
    assert len(arrays) == len(leaves), "two arrays of a state share a name"
    return arrays


def wanted(state: TrainState) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape, dtype and place of every array, to restore a state of the same kind."""
    return {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
        for name, array in to_arrays(state).items()
    }


def from_arrays(arrays: Mapping[str, Array], like: TrainState) -> TrainState:
    """A state from the arrays of `to_arrays`; `like` gives the structure and the frozen weights."""
    shape = like._replace(frozen={})
    leaves, structure = jax.tree_util.tree_flatten_with_path(shape)
    found = [arrays["/".join(map(_word, path))] for path, _ in leaves]
    return jax.tree.unflatten(structure, found)._replace(frozen=like.frozen)


def digest(arrays: Mapping[str, Array]) -> str:
    """Hex SHA-256 of what this process holds of the arrays."""
    state = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        state.update(f"{name} {array.shape} {array.dtype}\0".encode())
        for shard in sorted(array.addressable_shards, key=lambda shard: shard.device.id):
            raw = np.ascontiguousarray(np.asarray(shard.data)).reshape(-1).view(np.uint8)
            state.update(raw.data)
    return state.hexdigest()


def _word(key: object) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    raise TypeError(f"no name for {key!r}")
