"""One of two processes that save and restore one sharded array together.

python two_savers.py <coordinator> <index> <folder>
"""

import json
import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxablate.checkpoints.steps import StepStore
from jaxablate.core import processes

WIDE = np.arange(64, dtype=np.float32).reshape(8, 8)
SMALL = np.arange(3, dtype=np.int32)
EMPTY = np.zeros((0, 4), np.float32)


def place(mesh, *axes):
    """A sharding."""
    return NamedSharding(mesh, PartitionSpec(*axes))


def put(values, sharding):
    """A global array, of which each process gives its part."""
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def main(coordinator: str, index: int, folder: Path) -> None:
    """Resume if there is something, save twice, restore on another mesh."""
    processes.start(coordinator, 2, index)
    mesh, other = jax.make_mesh((4,), ("x",)), jax.make_mesh((2, 2), ("a", "b"))
    store = StepStore(folder, is_writer=processes.is_first(), fence=lambda: None)
    newest = store.newest() if processes.is_first() else None  # the writer alone asks
    begin = processes.agree(0 if newest is None else newest.step)
    step = jax.jit(lambda tree: jax.tree.map(lambda a: a + 1, tree), donate_argnums=0)
    for number in (begin + 1, begin + 2):
        arrays = {
            "wide": put(WIDE * number, place(mesh, "x")),
            "small": put(SMALL * number, place(mesh)),
            "empty": put(EMPTY, place(mesh)),
        }
        store.save(number, arrays, {"step": number}, keep={number})
        for _ in range(3):
            arrays = step(arrays)
    store.wait()
    processes.agree(0)  # the writer's commit is there
    assert store.steps() == [begin + 2]
    like = {
        "wide": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=place(other, "b", "a")),
        "small": jax.ShapeDtypeStruct((3,), jnp.int32, sharding=place(other)),
        "empty": jax.ShapeDtypeStruct((0, 4), jnp.float32, sharding=place(other)),
    }
    saved = store.open(begin + 2)
    found = store.restore(saved, like)
    for shard in found["wide"].addressable_shards:
        assert np.array_equal(shard.data, WIDE[shard.index] * saved.step)
    assert np.array_equal(found["small"], SMALL * saved.step)
    entries = json.loads((saved.path / "manifest.json").read_text())["record"]["arrays"]
    assert entries["wide"]["sha256"] is None
    assert len(entries["small"]["sha256"]) == 64


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
