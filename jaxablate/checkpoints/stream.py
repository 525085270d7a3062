"""Moves stored tensors into device arrays: each byte is read once, cast once and checked once.

A tensor is copied block by block into a fresh buffer, so that a block is cast and searched for
NaN and infinity while it is still in the processor's cache. The buffer's address is a multiple of
64, which lets JAX on the CPU keep it instead of copying it again; on an accelerator it is sent
and dropped. Either way the host holds no tensor twice.
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import ml_dtypes
import numpy as np

from jaxablate.checkpoints.content import shown
from jaxablate.checkpoints.safetensors import StoredTensor
from jaxablate.core.errors import UserError

BLOCK_ITEMS = 1 << 20
ALIGNMENT = 64  # what XLA on the CPU asks of a buffer before it takes it over

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# Type -> (unsigned type of the same width, its exponent bits): all of them set is NaN or infinity.
_EXPONENT = {
    np.dtype(np.float32): (np.uint32, 0x7F800000),
    _BFLOAT16: (np.uint16, 0x7F80),
    np.dtype(np.float16): (np.uint16, 0x7C00),
}

Index = tuple[slice, ...]
Cast = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Part:
    """One stored tensor, and the number its 8-bit values are multiplied by."""

    tensor: StoredTensor
    scale: np.float32 | None = None


@dataclass(frozen=True)
class Source:
    """Where a device array comes from: one tensor, or several stacked along a new leading axis."""

    parts: tuple[Part, ...]
    stacked: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""
        inner = self.parts[0].tensor.shape
        return (len(self.parts), *inner) if self.stacked else inner

    def select(self, index: Index) -> tuple[tuple[Part, ...], Index]:
        """The parts that the box `index` of the whole array touches, and the box inside each."""
        return (self.parts[index[0]], index[1:]) if self.stacked else (self.parts, index)


class Streamer:
    """Loads tensors onto devices; a few threads share the copying of each."""

    def __init__(self, num_threads: int | None = None):
        self._pool = ThreadPoolExecutor(num_threads or min(8, os.cpu_count() or 1))
        self._sent: jax.Array | None = None

    def __enter__(self) -> "Streamer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()

    def load(
        self, source: Source, *, dtype: np.dtype, sharding: jax.sharding.Sharding
    ) -> jax.Array:
        """The device array of `source`; reads only what this process's devices hold.

        Raises:
            UserError: naming the tensor that holds NaN, infinity, or a value too large for `dtype`.
        """
        buffers: dict[tuple, np.ndarray] = {}

        def shard(index: Index) -> np.ndarray:
            key = tuple((axis.start, axis.stop) for axis in index)
            if key not in buffers:
                buffers[key] = self._read(source, index, dtype)
            return buffers[key]

        array = jax.make_array_from_callback(source.shape, sharding, shard, dtype=dtype)
        if self._sent is not None:  # at most one transfer is under way while the next is read
            self._sent.block_until_ready()
        self._sent = array
        return array

    def _read(self, source: Source, index: Index, dtype: np.dtype) -> np.ndarray:
        parts, inner = source.select(index)
        views = [
            part.tensor.view()[(*inner, ...)] for part in parts
        ]  # ...: a scalar stays an array
        out = aligned_empty((len(parts), *views[0].shape), dtype)
        for number, (part, view) in enumerate(zip(parts, views, strict=True)):
            cast = cast_for(view.dtype, dtype, part.scale)
            jobs = [(part, cast, *block) for block in _blocks(view, out[number, ...])]
            list(self._pool.map(_copy, jobs))
        return out if source.stacked else out[0, ...]


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array whose address is a multiple of 64."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    return raw[offset : offset + size].view(dtype).reshape(shape)


def cast_for(source: np.dtype, target: np.dtype, scale: np.float32 | None = None) -> Cast:
    """How values of `source` become `target`: through float32, rounding to nearest even.

    With a `scale`, the 8-bit value is multiplied in float32 first; as there are only 256 of them,
    that is a table.
    """
    if scale is not None:
        return _table_cast(source, target, scale)
    if source == _BFLOAT16 and target == np.float32:
        return _widen_bfloat16
    return _plain_cast


def all_finite(values: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity, asked of the exponent bits."""
    unsigned, exponent = _EXPONENT[values.dtype]
    bits = values.view(unsigned) & unsigned(exponent)
    return bool(bits.max(initial=0) < exponent)


def _copy(job: tuple[Part, Cast, np.ndarray, np.ndarray]) -> None:
    part, cast, block, target = job
    with np.errstate(over="ignore", invalid="ignore"):
        cast(block, target)
    if all_finite(target):
        return
    where = f"{part.tensor.file}: tensor {shown(part.tensor.name)}"
    if np.isfinite(block.astype(np.float32)).all():
        raise UserError(f"{where}: has values too large for {target.dtype}; load it as bfloat16")
    raise UserError(f"{where}: holds NaN or infinity")


def _blocks(view: np.ndarray, out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if view.ndim == 0:
        view, out = view[None], out[None]
    rows = max(1, BLOCK_ITEMS // max(1, math.prod(view.shape[1:])))
    for start in range(0, len(view), rows):
        yield view[start : start + rows], out[start : start + rows]


def _plain_cast(block: np.ndarray, target: np.ndarray) -> None:
    np.copyto(target, block, casting="unsafe")


def _widen_bfloat16(block: np.ndarray, target: np.ndarray) -> None:
    bits = target.view(np.uint32)
    np.copyto(bits, block.view(np.uint16))
    np.left_shift(bits, 16, out=bits)


def _table_cast(source: np.dtype, target: np.dtype, scale: np.float32) -> Cast:
    values = np.arange(256, dtype=np.uint8).view(source).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        table = (values * scale).astype(target)
    unsigned = np.dtype(f"u{target.itemsize}")

    def cast(block: np.ndarray, out: np.ndarray) -> None:
        codes = np.ascontiguousarray(block.view(np.uint8))
        np.take(table.view(unsigned), codes, out=out.view(unsigned), mode="clip")

    return cast
