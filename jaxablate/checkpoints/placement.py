"""Where each weight of a decoder lives: on one device, or split over a mesh by its logical axes."""

import jax
from jax.sharding import Mesh, Sharding, SingleDeviceSharding

from jaxablate.core.mesh import weight_sharding
from jaxablate.models.family import logical_axes


def sharding_for(path: str, shape: tuple[int, ...], mesh: Mesh | None) -> Sharding:
    """The sharding of the weight at `path`; without a mesh, all of it on the first device."""
    if mesh is None:
        return SingleDeviceSharding(jax.local_devices()[0])
    return weight_sharding(mesh, logical_axes(path), shape)
