"""The record that makes a stored folder trusted: every file's SHA-256, and what the arrays are.

A bit that flips in weight data still reads as a weight, and array stores do not notice, so every
load compares every file with this record. The record guards itself: it is written in one
canonical form, which carries its own digest.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxablate.checkpoints.content import check_file, check_folder, read_json_file, shown
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest, sha256_file, write_atomic
from jaxablate.core.watch import tell

NAME = "manifest.json"
FORMAT = "jaxablate-weights"
VERSION = 1


def write_manifest(folder: Path, body: Mapping[str, Any], *, format: str = FORMAT) -> None:
    """Record the files of `folder` together with `body`; call it last."""
    record = {
        "format": format,
        "version": VERSION,
        **body,
        "files": describe_files(folder, _files_in(folder)),
    }
    write_atomic(folder / NAME, _canonical(record))


def read_manifest(folder: str | Path, *, format: str = FORMAT) -> dict[str, Any]:
    """The record of `folder`, itself intact and of a version that is understood here."""
    path = check_folder(folder) / NAME
    sealed = read_json_file(path)
    record = sealed.get("record") if isinstance(sealed, dict) else None
    if not isinstance(record, dict) or record.get("format") != format:
        raise UserError(f"{path}: is not a manifest of the format {format!r}")
    if path.read_text(encoding="utf-8") != _canonical(record):
        raise UserError(f"{path}: was changed after it was written (its digest does not match)")
    if record.get("version") != VERSION:
        raise UserError(
            f"{path}: has version {shown(record.get('version'))}, wanted {VERSION}; "
            "convert the original checkpoint again"
        )
    return record


def verify_files(folder: str | Path, record: Mapping[str, Any]) -> None:
    """Compare every file below `folder` with the record.

    Raises:
        UserError: naming the first file that is missing, foreign, of another size or changed.
    """
    folder = check_folder(folder)
    wanted: dict[str, dict[str, Any]] = record["files"]
    present = _files_in(folder)
    for name in sorted(wanted.keys() - set(present)):
        raise UserError(f"{folder / name}: file is missing")
    for name in sorted(set(present) - wanted.keys()):
        raise UserError(f"{folder / name}: file does not belong to this checkpoint")
    for name, entry in wanted.items():
        size = check_file(folder / name)
        if size != entry["bytes"]:
            raise UserError(f"{folder / name}: has {size} bytes, was written with {entry['bytes']}")
    found = describe_files(folder, present)
    for name, entry in wanted.items():
        if found[name] != entry:
            raise UserError(f"{folder / name}: content differs from what was written (SHA-256)")


def describe_files(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each named file; hashing releases the interpreter, so threads help."""

    def describe(name: str) -> tuple[str, dict[str, Any]]:
        path = folder / name
        size = check_file(path)
        return name, {"bytes": size, "sha256": sha256_file(path)}

    described: dict[str, dict[str, Any]] = {}
    wanted = sorted(names)
    total = sum(check_file(folder / name) for name in wanted)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, entry in pool.map(describe, wanted):
            described[name] = entry
            tell("checking files", sum(e["bytes"] for e in described.values()), total)
    return described


def digest_files(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One digest for a set of files: it changes with any name or any content."""
    return digest({name: entry["sha256"] for name, entry in files.items()})


def digest_array(values: np.ndarray) -> str:
    """Hex SHA-256 of an array's bytes in C order."""
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return hashlib.sha256(raw.data).hexdigest()


def describe_array(array: jax.Array | np.ndarray) -> dict[str, Any]:
    """Shape, dtype and SHA-256; None for an array that this process sees a part of only."""
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": digest_array(np.asarray(array)) if is_here(array) else None,
    }


def is_here(array: jax.Array | np.ndarray) -> bool:
    """Whether this process sees every element."""
    if isinstance(array, np.ndarray):
        return True
    return array.is_fully_addressable or array.is_fully_replicated


def _files_in(folder: Path) -> list[str]:
    names = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        names += [Path(root, name).relative_to(folder).as_posix() for name in files + links]
    return sorted(name for name in names if name != NAME)


def _canonical(record: Mapping[str, Any]) -> str:
    sealed = {"sha256": digest(record), "record": record}
    return json.dumps(sealed, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"
