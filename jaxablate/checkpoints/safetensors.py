"""Reads safetensors files strictly and without copying; writes them through the library.

A file is eight bytes of header length, a JSON header, and a buffer. The header is judged before
anything is allocated: names are given once, and the tensors tile the buffer exactly.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import ml_dtypes
import numpy as np

from jaxablate.checkpoints.content import check_file, foreign, shown
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import parse_json

MAX_HEADER_BYTES = 16 << 20
MAX_NAME_CHARACTERS = 512

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: bytes [start, stop) of `file`, C order, little endian."""

    name: str
    code: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int

    @property
    def dtype(self) -> np.dtype:
        """The numpy type behind the file's code."""
        return DTYPES[self.code]

    def view(self) -> np.ndarray:
        """A read-only view of the file's pages; nothing is read until it is looked at."""
        if self.start == self.stop:
            return np.empty(self.shape, self.dtype)
        try:
            raw = np.memmap(
                self.file, np.uint8, mode="r", offset=self.start, shape=(self.stop - self.start,)
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{self.file}: tensor {shown(self.name)}: {error}") from None
        return np.asarray(raw).view(self.dtype).reshape(self.shape)


def read_header(path: str | Path, max_header: int = MAX_HEADER_BYTES) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name; raises `UserError` for anything irregular."""
    path = Path(path)
    size = check_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(256)
            length = _header_length(path, head, size, max_header)
            file.seek(8)
            raw = file.read(length)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from None
    return parse_header(raw, path, buffer_start=8 + length, buffer_size=size - 8 - length)


def parse_header(
    raw: bytes, path: Path, *, buffer_start: int, buffer_size: int
) -> dict[str, StoredTensor]:
    """The tensors that the JSON header `raw` describes, checked against a buffer of that size."""
    header = parse_json(raw, f"{path}: safetensors header")
    if not isinstance(header, dict):
        raise UserError(f"{path}: the safetensors header is not an object")
    _check_metadata(path, header.pop("__metadata__", {}))
    tensors = {
        name: _tensor(path, name, entry, buffer_start, buffer_size)
        for name, entry in header.items()
    }
    _check_tiling(path, tensors.values(), buffer_start, buffer_size)
    return tensors


def write_file(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write one safetensors file that transformers accepts (its metadata says `format: pt`)."""
    from safetensors.numpy import save_file

    save_file(dict(tensors), path, metadata={"format": "pt"})


def _header_length(path: Path, head: bytes, size: int, max_header: int) -> int:
    if size == 0:
        raise UserError(f"{path}: is empty; wanted a safetensors file")
    length = int.from_bytes(head[:8], "little")
    # A header of 640 bytes starts a file like a pickle does, so the JSON behind it is asked first.
    plausible = length <= size - 8 and head[8:].lstrip()[:1] == b"{"
    if not plausible and (kind := foreign(head)):
        raise UserError(f"{path}: is {kind}; wanted a safetensors file")
    if size < 10:
        raise UserError(f"{path}: is {size} bytes, too short for a safetensors file")
    if length > size - 8:
        raise UserError(
            f"{path}: truncated or not safetensors: its header says {length} bytes, "
            f"the file has {size - 8} after the length"
        )
    if length > max_header:
        raise UserError(f"{path}: header of {length} bytes, wanted at most {max_header}")
    return length


def _check_metadata(path: Path, metadata: Any) -> None:
    strings = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not strings:
        raise UserError(f"{path}: __metadata__ in the header is not a table of strings")


def _tensor(path: Path, name: str, entry: Any, origin: int, limit: int) -> StoredTensor:
    where = f"{path}: tensor {shown(name)}"
    if not _is_plain(name):
        raise UserError(
            f"{where}: not a tensor name (empty, too long, or with '/', '..' or control characters)"
        )
    if not isinstance(entry, dict):
        raise UserError(f"{where}: its entry is not an object")
    code, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(code, str) or code not in DTYPES:
        raise UserError(f"{where}: {unknown('dtype', code, DTYPES)}")
    if not _are_counts(shape):
        raise UserError(f"{where}: shape {shown(shape)} is not a list of counts")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise UserError(f"{where}: data_offsets {shown(offsets)} is not a pair of counts")
    start, stop = offsets
    if not start <= stop <= limit:
        raise UserError(
            f"{where}: bytes {start} to {stop} lie outside the file's buffer of {limit} bytes "
            "(truncated?)"
        )
    wanted = math.prod(shape) * DTYPES[code].itemsize
    if wanted != stop - start:
        raise UserError(
            f"{where}: {code}{shape} takes {wanted} bytes, the header gives {stop - start}"
        )
    return StoredTensor(name, code, tuple(shape), path, origin + start, origin + stop)


def _check_tiling(path: Path, tensors: Iterable[StoredTensor], origin: int, size: int) -> None:
    position = origin
    for tensor in sorted(tensors, key=lambda t: (t.start, t.stop)):
        if tensor.start != position:
            problem = "overlaps another" if tensor.start < position else "leaves a hole before it"
            raise UserError(f"{path}: tensor {shown(tensor.name)} {problem} in the buffer")
        position = tensor.stop
    if position != origin + size:
        raise UserError(
            f"{path}: {origin + size - position} bytes after the last tensor belong to none"
        )


def _is_plain(name: str) -> bool:
    return (
        0 < len(name) <= MAX_NAME_CHARACTERS
        and name.isprintable()
        and not any(part in name for part in ("/", "\\", ".."))
    )


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    # type() and not isinstance: True is an int to Python, and no shape.
    return (
        isinstance(value, list)
        and len(value) <= 32
        and all(type(item) is int and 0 <= item < 1 << 63 for item in value)
    )
