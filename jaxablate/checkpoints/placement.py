"""Where each weight of a decoder lives: on one device, or split over a mesh by its logical axes."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from jaxablate.core.mesh import weight_sharding
from jaxablate.models.family import logical_axes


def sharding_for(path: str, shape: tuple[int, ...], mesh: Mesh | None) -> Sharding:
    """The sharding of the weight at `path`; without a mesh, all of it on the first device."""
    if mesh is None:
        return whole(mesh)
    return weight_sharding(mesh, logical_axes(path), shape)


def whole(mesh: Mesh | None) -> Sharding:
    """All of an array on every device of the mesh; without one, on the first device."""
    if mesh is None:
        return SingleDeviceSharding(jax.local_devices()[0])
    return NamedSharding(mesh, PartitionSpec())
