"""Writes that are whole or not there, reads that say which file was wrong, and digests."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Replace `path` by `data` so that a reader sees the old file or the new one, never a part."""
    path = Path(path)
    raw = data.encode() if isinstance(data, str) else data
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The JSON in `path`; raises `UserError` that names the file for anything unreadable."""
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: not readable as JSON ({_one_line(error)})") from None
    return parse_json(raw, path)


def parse_json(raw: bytes, where: str | Path) -> Any:
    """The JSON in `raw`, UTF-8 with or without a mark; errors say that it came from `where`."""
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not readable as JSON ({_one_line(error)})") from None


def sync_folder(folder: str | Path) -> None:
    """Make the entries of `folder` durable (POSIX: fsync of the directory)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"duplicate key {name!r}")
        table[name] = value
    return table


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
