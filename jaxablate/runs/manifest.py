"""What has to be known to believe a run's numbers, and to repeat them."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PACKAGES = (
    "jaxablate",
    "jax",
    "jaxlib",
    "flax",
    "orbax-checkpoint",
    "numpy",
    "ml_dtypes",
    "tokenizers",
    "safetensors",
    "datasets",
    "lm_eval",
)
HOME = Path(__file__).parents[1]


def environment() -> dict[str, Any]:
    """Software, machine, command and code, without importing any of the packages it names."""
    return {
        "packages": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "argv": list(sys.argv),
        "git": git_state(HOME.parent),
        "code": code_digest(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that results may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def code_digest() -> str:
    """Digest of jaxablate's own source files: two runs with one digest ran the same code."""
    return source_digest(HOME)


def source_digest(folder: Path) -> str:
    """Hex digest of names and contents of all Python files below a folder."""
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        state.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout and whether it was changed; None outside of one."""
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changed is None else bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
