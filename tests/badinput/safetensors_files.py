"""Wrong safetensors files. Each is written to the given path; `pack` builds them from parts."""

import json
import struct
from pathlib import Path
from typing import Any

from tests.badinput.case import BadInput, check_ids, write


def pack(header: Any, buffer: bytes = bytes(8)) -> bytes:
    """The bytes of a file with this header (an object, or raw bytes) and buffer."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + buffer


def entry(shape: Any = (2,), dtype: Any = "F32", offsets: Any = (0, 8), **more: Any) -> dict:
    """One tensor's entry; by default two float32 in the first eight bytes."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def _one(name: str = "w", **fields: Any) -> bytes:
    return pack({name: entry(**fields)})


def _without(key: str) -> bytes:
    whole = entry()
    del whole[key]
    return pack({"w": whole})


def _two(first: tuple[int, int], second: tuple[int, int], size: int) -> bytes:
    header = {"a": entry(offsets=first), "b": entry(offsets=second)}
    return pack(header, bytes(size))


def _raw(text: str, size: int = 8) -> bytes:
    return pack(text.encode(), bytes(size))


def _sparse(claimed: int, size: int) -> Any:
    def make(path: Path) -> None:
        path.write_bytes(struct.pack("<Q", claimed) + b"{")
        with open(path, "r+b") as file:
            file.truncate(size)

    return make


_ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'

CASES = check_ids(
    [
        BadInput("empty", write(b""), ("is empty",)),
        BadInput("one byte", write(b"\x01"), ("too short",)),
        BadInput("seven bytes", write(bytes(7)), ("too short",)),
        BadInput("eight bytes", write(bytes(8)), ("too short",)),
        BadInput("header of no bytes", write(bytes(16)), ("header", "not readable as JSON")),
        BadInput("header longer than file", write(_one()[:20]), ("truncated",)),
        BadInput("header length 2^63", write(struct.pack("<Q", 1 << 63) + b"{}"), ("truncated",)),
        BadInput("header length 2^64-1", write(b"\xff" * 8 + b"{}"), ("truncated",)),
        BadInput(
            "header over the cap", _sparse(17 << 20, 20 << 20), ("header of 17825792", "at most")
        ),
        BadInput("header of a TiB", _sparse(1 << 40, (1 << 40) + 64), ("at most",)),
        BadInput("header not UTF-8", write(pack(b'{"\xff\xfe": 1}')), ("not readable as JSON",)),
        BadInput("header not JSON", write(_raw("not json")), ("not readable as JSON",)),
        BadInput("header cut off", write(_raw('{"w": {"dtype"')), ("not readable as JSON",)),
        BadInput(
            "header with a tail", write(_raw(f'{{"w": {_ENTRY}}} x')), ("not readable as JSON",)
        ),
        BadInput("header is a list", write(_raw("[1, 2]")), ("not an object",)),
        BadInput("header is null", write(_raw("null")), ("not an object",)),
        BadInput("header is a string", write(_raw('"weights"')), ("not an object",)),
        BadInput("header nested deeply", write(_raw("[" * 100_000)), ("not readable as JSON",)),
        BadInput(
            "number of 5000 digits",
            write(_raw('{"w":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % ("9" * 5000))),
            ("not readable as JSON",),
        ),
        BadInput(
            "name twice", write(_raw(f'{{"w": {_ENTRY}, "w": {_ENTRY}}}')), ("duplicate", "'w'")
        ),
        BadInput(
            "key of an entry twice",
            write(_raw('{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}')),
            ("duplicate", "'dtype'"),
        ),
        BadInput(
            "metadata is a list", write(pack({"__metadata__": [], "w": entry()})), ("__metadata__",)
        ),
        BadInput(
            "metadata holds a number",
            write(pack({"__metadata__": {"a": 1}, "w": entry()})),
            ("__metadata__",),
        ),
        BadInput("entry is a list", write(pack({"w": [1, 2]})), ("'w'", "not an object")),
        BadInput("entry is null", write(pack({"w": None})), ("'w'", "not an object")),
        BadInput("dtype missing", write(_without("dtype")), ("'w'", "dtype")),
        BadInput("dtype unknown", write(_one(dtype="F7")), ("'w'", "unknown dtype 'F7'")),
        BadInput("dtype in small letters", write(_one(dtype="bf16")), ("'w'", "'bf16'", "BF16")),
        BadInput("dtype is a number", write(_one(dtype=32)), ("'w'", "dtype")),
        BadInput("dtype of four bits", write(_one(dtype="F4")), ("'w'", "dtype")),
        BadInput("shape missing", write(_without("shape")), ("'w'", "shape")),
        BadInput("shape is a string", write(_one(shape="2")), ("'w'", "shape")),
        BadInput("shape negative", write(_one(shape=[-2])), ("'w'", "shape")),
        BadInput("shape of floats", write(_one(shape=[2.0])), ("'w'", "shape")),
        BadInput("shape of booleans", write(_one(shape=[2, True])), ("'w'", "shape")),
        BadInput(
            "shape is NaN",
            write(_raw('{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}')),
            ("'w'", "shape"),
        ),
        BadInput("shape of 33 axes", write(_one(shape=[1] * 32 + [2])), ("'w'", "shape")),
        BadInput("shape of 2^80 values", write(_one(shape=[1 << 40, 1 << 40])), ("'w'", "takes")),
        BadInput("shape too large", write(_one(shape=[3])), ("'w'", "takes 12 bytes", "gives 8")),
        BadInput("shape too small", write(_one(shape=[1])), ("'w'", "takes 4 bytes", "gives 8")),
        BadInput("offsets missing", write(_without("data_offsets")), ("'w'", "data_offsets")),
        BadInput("offsets single", write(_one(offsets=[0])), ("'w'", "pair")),
        BadInput("offsets triple", write(_one(offsets=[0, 4, 8])), ("'w'", "pair")),
        BadInput("offsets reversed", write(_one(offsets=[8, 0])), ("'w'", "8 to 0")),
        BadInput("offsets negative", write(_one(offsets=[-8, 0])), ("'w'", "data_offsets")),
        BadInput("offsets of floats", write(_one(offsets=[0.0, 8.0])), ("'w'", "data_offsets")),
        BadInput("offsets of 2^64", write(_one(offsets=[1 << 64, (1 << 64) + 8])), ("'w'", "pair")),
        BadInput("offsets past the end", write(_one(offsets=[8, 16])), ("'w'", "outside")),
        BadInput("tensors overlap", write(_two((0, 8), (4, 12), 12)), ("'b'", "overlaps")),
        BadInput("same bytes twice", write(_two((0, 8), (0, 8), 8)), ("overlaps",)),
        BadInput("hole between tensors", write(_two((0, 8), (12, 20), 20)), ("'b'", "hole")),
        BadInput(
            "hole at the start",
            write(pack({"w": entry(offsets=(4, 12))}, bytes(12))),
            ("'w'", "hole"),
        ),
        BadInput("bytes after the last", write(_one() + bytes(4)), ("4 bytes after",)),
        BadInput("last byte missing", write(_one()[:-1]), ("'w'", "truncated")),
        BadInput("buffer missing", write(_one()[:-8]), ("'w'", "truncated")),
        BadInput("name empty", write(_one("")), ("''", "not a tensor name")),
        BadInput("name with NUL", write(_one("w\0x")), (r"'w\x00x'", "not a tensor name")),
        BadInput("name with newline", write(_one("w\nx")), ("not a tensor name",)),
        BadInput(
            "name that climbs", write(_one("../../etc/x")), ("'../../etc/x'", "not a tensor name")
        ),
        BadInput("name that is a path", write(_one("/etc/passwd")), ("not a tensor name",)),
        BadInput(
            "name with a surrogate", write(_raw(f'{{"\\ud800": {_ENTRY}}}')), ("not a tensor name",)
        ),
        BadInput("name of 10,000 letters", write(_one("w" * 10_000)), ("not a tensor name",)),
        BadInput(
            "Git-LFS pointer",
            write(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n"),
            ("Git-LFS pointer", "git lfs pull"),
        ),
        BadInput("web page", write("<!DOCTYPE html><html><body>404</body></html>"), ("web page",)),
        BadInput(
            "web page after blanks", write("\n  <html lang=en><title>Log in</title>"), ("web page",)
        ),
        BadInput(
            "error text",
            write('{"error": "Repository not found"}'),
            ("truncated or not safetensors",),
        ),
        BadInput("pickle", write(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00N."), ("pickle",)),
        BadInput("zip of PyTorch", write(b"PK\x03\x04" + bytes(60)), ("zip", "pickle")),
        BadInput("GGUF", write(b"GGUF\x03\x00\x00\x00" + bytes(32)), ("GGUF",)),
        BadInput("NumPy file", write(b"\x93NUMPY\x01\x00" + bytes(120)), ("NumPy",)),
    ]
)

# Irregular but harmless, and met in the wild: these are read.
ACCEPTED = {
    "unknown fields": pack({"w": entry(note="x"), "__metadata__": {"format": "pt"}}),
    "spaces around the header": _raw(f'  {{"w": {_ENTRY}}}   '),
    "no tensors": pack({}, b""),
    "tensor of no values": pack({"e": entry([0, 4], offsets=[8, 8]), "w": entry()}),
    "scalar": pack({"s": entry([], "F64")}),
    "tensors out of order": _two((8, 16), (0, 8), 16),
}
