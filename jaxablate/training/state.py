"""What training carries from step to step, where it lives on a mesh, and its random streams."""

import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, Sharding
from jaxtyping import Array, Int, UInt32

from jaxablate.checkpoints.placement import sharding_for, whole
from jaxablate.core.mesh import place

Weights = dict[str, Array]


class TrainState(NamedTuple):
    """Everything a step needs and changes; a pytree.

    Attributes:
        step: steps done, counted from 0; every schedule and random stream is a function of it.
        params: master weights by path, those that are trained.
        frozen: the other weights, in the type of the computation; without gradient or state.
        opt_state: the optimiser's, for `params` alone.
        key: made from the run's seed; never used directly, see `stream`.
    """

    step: Int[Array, ""]
    params: Weights
    frozen: Weights
    opt_state: Any
    key: UInt32[Array, " 2"]


def stream(key: UInt32[Array, " 2"], name: str, step: Any) -> UInt32[Array, " 2"]:
    """The key of a named stream at a step: streams and steps are independent of each other.

    >>> key = jax.random.PRNGKey(0)
    >>> bool(jnp.array_equal(stream(key, "dropout", 3), stream(key, "rounding", 3)))
    False
    """
    named = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return jax.random.fold_in(named, step)


def create(
    params: Mapping[str, Any],
    frozen: Mapping[str, Any],
    optimiser: optax.GradientTransformation,
    *,
    seed: int,
    master_dtype: str,
    compute_dtype: str,
    mesh: Mesh | None = None,
) -> TrainState:
    """A state at step 0. Its master weights are copies: a step may write over them."""
    where = weight_placement(mesh)
    masters = {
        path: _copy(weight, master_dtype, where(path, weight.shape))
        for path, weight in params.items()
    }
    rest = {
        path: _cast(weight, compute_dtype, where(path, weight.shape))
        for path, weight in frozen.items()
    }
    shapes = jax.eval_shape(optimiser.init, masters)
    init = jax.jit(optimiser.init, out_shardings=shardings_like(shapes, masters, mesh))
    step, key = place((np.int32(0), np.asarray(jax.random.PRNGKey(seed))), whole(mesh))
    return TrainState(step, masters, rest, init(masters), key)


def _copy(weight: Any, dtype: str, sharding: Sharding) -> Array:
    # A transfer alone may keep the buffer where a device already has its part, whatever it is told.
    return _copier(sharding)(_cast(weight, dtype, sharding))


@lru_cache(maxsize=64)
def _copier(sharding: Sharding) -> Callable[[Array], Array]:
    return jax.jit(jnp.copy, out_shardings=sharding)


def _cast(weight: Any, dtype: str, sharding: Sharding) -> Array:
    if sharding.is_fully_addressable:
        return jax.device_put(jnp.asarray(weight).astype(dtype), sharding)
    # Only a program moves an array of which a process has a part.
    return jax.jit(lambda w: w.astype(dtype), out_shardings=sharding)(weight)


def weight_placement(mesh: Mesh | None) -> Callable[[str, tuple[int, ...]], Sharding]:
    """Where a weight lives: a decoder's or its low-rank factors' by their logical axes.

    Any other is whole on every device.
    """

    def where(path: str, shape: tuple[int, ...]) -> Sharding:
        has_axes = path.endswith(("/weight", "/bias", "/lora_a", "/lora_b"))
        return sharding_for(path, shape, mesh) if has_axes else whole(mesh)

    return where


def shardings_like(state: Any, params: Mapping[str, Array], mesh: Mesh | None) -> Any:
    """Shardings for an optimiser's state: an array as large as its weight lives where that does."""
    where = weight_placement(mesh)

    def choose(path: tuple, leaf: Any) -> Sharding:
        name = str(getattr(path[-1], "key", "")) if path else ""
        same = name in params and params[name].shape == leaf.shape
        return where(name, leaf.shape) if same else whole(mesh)

    return jax.tree_util.tree_map_with_path(choose, state)
