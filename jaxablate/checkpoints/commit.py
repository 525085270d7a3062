"""A folder that appears whole or not at all.

Everything is written beside the target under a hidden name, made durable, and renamed. A process
that dies on the way leaves only the hidden folder, which the next write to the same target removes.
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from jaxablate.core.errors import UserError
from jaxablate.core.files import sync_folder


@contextlib.contextmanager
def new_folder(target: str | Path) -> Iterator[Path]:
    """Gives a temporary folder that becomes `target` when the block ends without an exception.

    Raises:
        UserError: when `target` exists and is not an empty folder, or cannot be written.
    """
    target = Path(target).absolute()
    check_free(target)
    partial = target.parent / f".{target.name}.partial-{socket.gethostname()}-{os.getpid()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(target)
        partial.mkdir()
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({_reason(error)})") from None
    try:
        yield partial
        make_durable(partial)
        _rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(target.parent)


def check_free(target: str | Path) -> None:
    """Refuse a target that holds something already."""
    target = Path(target)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target}: exists and is not a folder; name a new one")
    if target.is_dir() and any(target.iterdir()):
        raise UserError(f"{target}: exists and is not empty; name a new folder")


def _rename(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)  # replaces an empty folder, fails on any other
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({_reason(error)})") from None


def make_durable(folder: str | Path) -> None:
    """Force every file and folder below `folder` to the disk, itself included."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            with open(Path(root, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(root)


def _remove_left_over(target: Path) -> None:
    prefix = f".{target.name}.partial-{socket.gethostname()}-"
    for entry in target.parent.iterdir():
        owner = entry.name.removeprefix(prefix)
        if entry.name.startswith(prefix) and owner.isdigit() and not is_alive(int(owner)):
            shutil.rmtree(entry, ignore_errors=True)


def is_alive(process: int) -> bool:
    """Whether another process of this machine has the id."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
