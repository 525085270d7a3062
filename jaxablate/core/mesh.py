"""Device meshes with the axes data, fsdp and tensor, and where a weight's axes go on them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxablate.core.errors import UserError, unknown

if TYPE_CHECKING:
    from jax.sharding import Mesh, NamedSharding, Sharding

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis of a weight -> mesh axis. Axes that do not divide stay whole.
RULES = {
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "embed": "fsdp",
}


def parse_mesh(text: str) -> dict[str, int]:
    """Axis sizes from text such as "fsdp=2,tensor=4"; axes not named have size 1.

    >>> parse_mesh("fsdp=2")
    {'data': 1, 'fsdp': 2, 'tensor': 1}
    """
    sizes: dict[str, int] = dict.fromkeys(MESH_AXES, 1)
    for item in filter(None, text.replace(" ", "").split(",")):
        axis, _, size = item.partition("=")
        if axis not in sizes:
            raise unknown("mesh axis", axis, MESH_AXES)
        if not size.isdigit() or int(size) < 1:
            raise UserError(f"mesh axis {axis} needs a size >= 1, got {size!r}")
        sizes[axis] = int(size)
    return sizes


def make_mesh(sizes: dict[str, int]) -> "Mesh":
    """A mesh over the first data*fsdp*tensor devices; raises `UserError` when there are fewer."""
    import jax

    shape = tuple(sizes[axis] for axis in MESH_AXES)
    needed = shape[0] * shape[1] * shape[2]
    devices = jax.devices()
    if needed > len(devices):
        raise UserError(f"mesh {sizes} needs {needed} devices, got {len(devices)}")
    return jax.make_mesh(
        shape, MESH_AXES, devices=devices[:needed], axis_types=(jax.sharding.AxisType.Auto,) * 3
    )


def weight_sharding(
    mesh: "Mesh", axes: Sequence[str | None], shape: Sequence[int]
) -> "NamedSharding":
    """Where a weight with these logical axes lives; an axis that does not divide is not split."""
    from jax.sharding import NamedSharding, PartitionSpec

    spec = []
    for axis, size in zip(axes, shape, strict=True):
        target = RULES.get(axis) if axis else None
        fits = target is not None and size % mesh.shape[target] == 0
        spec.append(target if fits else None)
    return NamedSharding(mesh, PartitionSpec(*spec))


def place(tree: Any, sharding: "Sharding") -> Any:
    """Host arrays, equal on every process, on devices; each process fills those of its own.

    `jax.device_put` would compare the arrays over the network for every call.
    """
    import jax
    import numpy as np

    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(value: Any) -> jax.Array:
        host = np.asarray(value)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)
