"""Moves stored tensors into device arrays: each byte is read once, cast once and checked once.

A tensor is read in blocks of rows. Each block is cast into the buffers of the shards it belongs
to, and searched for NaN and infinity, while it is still in the processor's cache. A buffer's
address is a multiple of 64, which lets JAX on the CPU keep it instead of copying it again; on an
accelerator it is sent and dropped. Either way the host holds no tensor twice. Files are read, not
mapped: one that shrinks meanwhile is an error then, and not a dead process.
"""

import contextlib
import functools
import math
import mmap
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np

from jaxablate.checkpoints.cast import Cast, all_finite, cast_for
from jaxablate.checkpoints.content import shown
from jaxablate.checkpoints.safetensors import StoredTensor
from jaxablate.core.errors import UserError

BLOCK_BYTES = 1 << 20
ALIGNMENT = 64  # what XLA on the CPU asks of a buffer before it takes it over

# The part of an array that one device holds: (start, stop) along each axis.
Box = tuple[tuple[int, int], ...]


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

    def targets(self, buffers: dict[Box, np.ndarray], number: int) -> dict[Box, np.ndarray]:
        """Boxes of the tensor `number` alone, and where in the buffers their values go."""
        if not self.stacked:
            return buffers
        holds = {box: out for box, out in buffers.items() if box[0][0] <= number < box[0][1]}
        return {box[1:]: out[number - box[0][0], ...] for box, out in holds.items()}


class Streamer:
    """Loads tensors onto devices; a few threads share the reading of each."""

    def __init__(self, num_threads: int | None = None):
        self._pool = ThreadPoolExecutor(num_threads or min(8, os.cpu_count() or 1))
        self._files: dict[Path, BinaryIO] = {}
        self._open_files = contextlib.ExitStack()
        self._thread = threading.local()
        self._sent: jax.Array | None = None

    def __enter__(self) -> "Streamer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()
        self._open_files.close()

    def load(
        self, source: Source, *, dtype: np.dtype, sharding: jax.sharding.Sharding
    ) -> jax.Array:
        """The device array of `source`; reads only the rows that this process's devices hold.

        Raises:
            UserError: naming the tensor that holds NaN, infinity, or a value too large for `dtype`.
        """
        shape = source.shape
        indices = sharding.addressable_devices_indices_map(shape).values()
        buffers = empty_boxes({_box(index, shape) for index in indices}, dtype)
        for number, part in enumerate(source.parts):
            self.fill(part, source.targets(buffers, number))
        array = jax.make_array_from_callback(
            shape, sharding, lambda index: buffers[_box(index, shape)], dtype=dtype
        )
        if self._sent is not None:  # at most one transfer is under way while the next is read
            self._sent.block_until_ready()
        self._sent = array
        return array

    def fill(self, part: Part, targets: Mapping[Box, np.ndarray]) -> None:
        """Write each box of the part's tensor into its target; each row is read once for all."""
        if not targets:
            return
        tensor = part.tensor
        self._open(tensor.file)
        if tensor.shape == ():
            (scalar,) = targets.values()
            targets = {((0, 1),): scalar.reshape(1)}
        cast = cast_for(tensor.dtype, next(iter(targets.values())).dtype, part.scale)
        job = functools.partial(self._copy, part, cast, targets)
        blocks = [
            rows for rows in _blocks(tensor) if any(_overlap(rows, box[0]) for box in targets)
        ]
        list(self._pool.map(job, blocks))

    def _copy(self, part: Part, cast: Cast, targets: Mapping[Box, np.ndarray], rows: range) -> None:
        tensor = part.tensor
        inner = tensor.shape[1:]
        (box, out), *others = targets.items()
        if not others and out.shape[1:] == inner and out.dtype == tensor.dtype:
            mine = _overlap(rows, box[0])
            target = _rows(out, box, mine)
            self._read(tensor, mine.start, target)
            _check(part, target, target)
            return
        block = self._scratch(tensor.dtype, (len(rows), *inner))
        self._read(tensor, rows.start, block)
        for box, out in targets.items():
            if mine := _overlap(rows, box[0]):
                columns = [slice(*axis) for axis in box[1:]]
                values = block[(slice(mine.start - rows.start, mine.stop - rows.start), *columns)]
                target = _rows(out, box, mine)
                cast(values, target)
                _check(part, values, target)

    def _open(self, path: Path) -> None:
        if path in self._files:
            return
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the streamer
            self._files[path] = self._open_files.enter_context(file)
        except OSError as error:
            raise _unreadable(path, error) from None

    def _read(self, tensor: StoredTensor, row: int, out: np.ndarray) -> None:
        """Fill `out`, which is contiguous, with the tensor's rows from `row` on."""
        raw = out.reshape(-1).view(np.uint8).data
        position = tensor.start + row * _row_bytes(tensor)
        while len(raw):
            try:
                count = os.preadv(self._files[tensor.file].fileno(), [raw], position)
            except OSError as error:
                raise _unreadable(tensor.file, error) from None
            if count == 0:
                raise UserError(f"{tensor.file}: became shorter while it was read")
            raw, position = raw[count:], position + count

    def _scratch(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """This thread's working memory, as an array."""
        size = dtype.itemsize * math.prod(shape)
        if getattr(self._thread, "memory", None) is None or self._thread.memory.size < size:
            self._thread.memory = np.empty(max(size, BLOCK_BYTES), np.uint8)
        return self._thread.memory[:size].view(dtype).reshape(shape)


def empty_boxes(boxes: Collection[Box], dtype: np.dtype) -> dict[Box, np.ndarray]:
    """A zeroed buffer for each box; its address is a multiple of 64.

    The memory comes straight from the system in small pages. NumPy would ask for huge ones, and
    in a virtual machine their first touch was measured to cost more than all the rest of a load.
    """
    shapes = {box: [stop - start for start, stop in box] for box in boxes}
    sizes = {box: math.prod(shape) * dtype.itemsize for box, shape in shapes.items()}
    strides = {box: -(-size // ALIGNMENT) * ALIGNMENT for box, size in sizes.items()}
    memory = np.frombuffer(_memory(sum(strides.values())), np.uint8)
    buffers, start = {}, 0
    for box, shape in shapes.items():
        buffers[box] = memory[start : start + sizes[box]].view(dtype).reshape(shape)
        start += strides[box]
    return buffers


def _memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _check(part: Part, values: np.ndarray, target: np.ndarray) -> None:
    if all_finite(target):
        return
    where = f"{part.tensor.file}: tensor {shown(part.tensor.name)}"
    if np.isfinite(values.astype(np.float32)).all():
        raise UserError(f"{where}: has values too large for {target.dtype}; load it as bfloat16")
    raise UserError(f"{where}: holds NaN or infinity")


def _box(index: Sequence[slice] | None, shape: tuple[int, ...]) -> Box:
    """JAX's index of a shard with its borders written out."""
    return tuple(axis.indices(size)[:2] for axis, size in zip(index or (), shape, strict=True))


def _blocks(tensor: StoredTensor) -> Iterator[range]:
    """The tensor's rows in blocks of about a mebibyte; a scalar is one row."""
    num_rows = tensor.shape[0] if tensor.shape else 1
    step = max(1, BLOCK_BYTES // max(1, _row_bytes(tensor)))
    return (range(first, min(first + step, num_rows)) for first in range(0, num_rows, step))


def _row_bytes(tensor: StoredTensor) -> int:
    return tensor.dtype.itemsize * math.prod(tensor.shape[1:])


def _overlap(rows: range, axis: tuple[int, int]) -> range:
    return range(max(rows.start, axis[0]), min(rows.stop, axis[1]))


def _rows(out: np.ndarray, box: Box, rows: range) -> np.ndarray:
    """The rows of the tensor, in the target of a box that begins at a later row."""
    return out[rows.start - box[0][0] : rows.stop - box[0][0]]


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({os.strerror(error.errno or 0).lower()})")
