"""What a file really is, asked before it is read: a checkpoint folder is data from outside.

A fifo would hang, a symlink may lead out of the folder, and a failed download leaves a Git-LFS
pointer or a web page under the name of a weight file. Each of these ends in one sentence.
"""

import os
import stat
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.core.files import parse_json

MAX_JSON_BYTES = 64 << 20

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a fifo"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_ZIP = "a zip archive (PyTorch's pickle format)"

# First bytes -> what the file is instead of safetensors.
_FOREIGN = (
    (b"version https://git-lfs", "a Git-LFS pointer, not the file itself; run `git lfs pull`"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"PK\x03\x04", _ZIP),
    (b"PK\x05\x06", _ZIP),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
)


def check_folder(folder: str | Path) -> Path:
    """`folder` as a path, when it is a folder that can be listed."""
    folder = Path(folder)
    try:
        found = folder.is_dir()
    except ValueError:  # a NUL in the name
        found = False
    if not found:
        what = "is a file, not a folder" if _exists(folder) else "no such folder"
        raise UserError(f"{str(folder)!r}: {what}; wanted a checkpoint folder")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"{folder}: no permission to read this folder")
    return folder


def check_file(path: Path) -> int:
    """The size of a regular file that lies inside its folder; anything else is a `UserError`.

    A symlink may point anywhere inside the folder, or inside the same repository of the Hugging
    Face cache, where `snapshots/<commit>/<name>` is a link into `blobs`.
    """
    try:
        status = path.stat()
        target = path.resolve(strict=True)
    except FileNotFoundError:
        raise UserError(
            f"{path}: {'broken symlink' if path.is_symlink() else 'no such file'}"
        ) from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "symlink loop"
        raise UserError(f"{path}: cannot be opened ({reason.lower()})") from None
    for matches, kind in _KINDS:
        if matches(status.st_mode):
            raise UserError(f"{path}: is {kind}, wanted a regular file")
    if not target.is_relative_to(_boundary(path.parent)):
        raise UserError(
            f"{path}: is a symlink to {target}, which lies outside the checkpoint folder"
        )
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: no permission to read this file")
    return status.st_size


def read_json_file(path: Path) -> Any:
    """The JSON in a checked file of at most 64 MiB."""
    size = check_file(path)
    if size > MAX_JSON_BYTES:
        raise UserError(f"{path}: is {size} bytes, wanted JSON of at most {MAX_JSON_BYTES} bytes")
    raw = path.read_bytes()
    if raw.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: is {_FOREIGN[0][1]}")
    return parse_json(raw, path)


def foreign(head: bytes) -> str | None:
    """What a file starting with `head` is, when it is plainly not safetensors.

    >>> foreign(b"version https://git-lfs.github.com/spec/v1")
    'a Git-LFS pointer, not the file itself; run `git lfs pull`'
    """
    for magic, kind in _FOREIGN:
        if head.startswith(magic):
            return kind
    if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the file itself; download it again"
    return None


def shown(name: object) -> str:
    """A name from a file as it may stand in a message: quoted, escaped, at most 80 characters.

    >>> shown("a" * 100)[-6:]
    'aaa...'
    """
    text = ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."


def _boundary(folder: Path) -> Path:
    folder = folder.resolve()
    in_cache = folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir()
    return folder.parent.parent if in_cache else folder


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except ValueError:
        return False
