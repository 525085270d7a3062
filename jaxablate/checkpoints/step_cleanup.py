"""What leaves a folder of saved steps, and under which name the rest of it stays."""

import itertools
import os
import re
import shutil
import socket
from pathlib import Path

from jaxablate.checkpoints.commit import is_alive
from jaxablate.core.files import sync_folder

_HIDDEN = re.compile(r"\.step-\d+\.(?:partial|removed)-(.+-\d+-[0-9a-f]{8})")


def owner_name(mark: int, *, shared: bool) -> str:
    """A name for whoever writes: this process, or (`shared`) several that agreed on `mark`."""
    place = "all-0" if shared else f"{socket.gethostname()}-{os.getpid()}"
    return f"{place}-{mark:08x}"


def partial_path(target: Path, owner: str) -> Path:
    """Where `target` is written before it is whole."""
    return target.with_name(f".{target.name}.partial-{owner}")


def remove_step(path: Path, owner: str) -> None:
    """Delete a step; at no time is a part of it there under its name."""
    gone = path.with_name(f".{path.name}.removed-{owner}")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged step to the first free `<name>.bad-<n>`, and give that."""
    numbered = (path.with_name(f"{path.name}.bad-{n}") for n in itertools.count(1))
    bad = next(free for free in numbered if not free.exists())
    path.rename(bad)
    sync_folder(path.parent)
    return bad


def remove_left_over(folder: Path, owner: str, *, is_sole: bool) -> None:
    """Delete what dead processes left half written or half deleted.

    Args:
        folder: of the steps.
        owner: who asks; what it writes itself stays.
        is_sole: nobody else may write here, so that any other owner is gone, whatever its id says.
    """
    for path in list(folder.iterdir()):
        match = _HIDDEN.fullmatch(path.name)
        if match and match[1] != owner and (is_sole or _is_dead(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_dead(owner: str) -> bool:
    host, process, _ = owner.rsplit("-", 2)
    is_other = int(process) != os.getpid()
    return host == socket.gethostname() and is_other and not is_alive(int(process))
