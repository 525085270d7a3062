"""A run's folder: found again by the same config, written by one process, refused to any other.

    <root>/<date>-<slug>-<6 hex of the config's fingerprint>/
        manifest.json   config, software, digests, status; written first and finalised last
        journal.jsonl   finished work, for resuming
        records/        one line an example
        metrics.json    the results

The same command continues its folder. A folder of another config is refused before anything in it
is touched.
"""

import contextlib
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxablate.core.config import differences
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest, read_json, write_json
from jaxablate.runs.journal import Journal
from jaxablate.runs.lock import NAME as LOCK
from jaxablate.runs.lock import FolderLock, LockedError
from jaxablate.runs.manifest import environment, now

MANIFEST, METRICS, JOURNAL, RECORDS = "manifest.json", "metrics.json", "journal.jsonl", "records"
FORMAT = 1
# Kinds of runs whose folder is a checkpoint.
FINETUNE, PRETRAIN = "finetune", "pretrain"
TRAINING = (FINETUNE, PRETRAIN)


class RunFolder:
    """An open run; a context manager that records how the run ended.

    Attributes:
        path: the folder.
        manifest: what manifest.json holds.
        attempt: how many times the run was started, this time included.
    """

    def __init__(self, path: Path, kind: str, config: dict[str, Any]):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(path)
        self._began = time.monotonic()
        try:
            self.attempt = self._lock.attempt
            self.manifest = self._started(kind, config)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def open(
        cls,
        root: str | Path,
        *,
        kind: str,
        slug: str,
        config: dict[str, Any],
        name: str | None = None,
    ) -> "RunFolder":
        """The folder of this config under `root`: the one there is, or a new one.

        Args:
            root: folder of runs.
            kind: what the run does, such as "evaluate".
            slug: readable part of a new folder's name.
            config: what determines the results, as plain values.
            name: folder name to use instead of a made one.

        Raises:
            UserError: when the folder holds another config's run, or another process writes it.
        """
        root = Path(root)
        path = root / name if name else find(root, slug, config) or root / run_id(slug, config)
        check(path, kind, config)
        return cls(path, kind, config)

    @property
    def done(self) -> bool:
        """The run finished before."""
        return self.manifest["status"] == "done"

    def fence(self) -> None:
        """Raise `LockedError` when another process owns this run by now; ask before writing."""
        self._lock.check()

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest, durably; raises `LockedError` as `fence` does."""
        self.fence()
        self.manifest.update(facts)
        write_json(self.path / MANIFEST, self.manifest)

    def journal(self) -> Journal:
        """The journal, opened for appending."""
        return Journal(self.path / JOURNAL)

    def records(self) -> Path:
        """The folder of records, made if need be."""
        path = self.path / RECORDS
        path.mkdir(exist_ok=True)
        return path

    def _started(self, kind: str, config: dict[str, Any]) -> dict[str, Any]:
        path = self.path / MANIFEST
        if path.exists():
            # Somebody may have finished or begun it between the first look and the lock.
            check(self.path, kind, config)
            manifest = read_json(path)
            if manifest["status"] == "done":
                return manifest
        else:
            manifest = {
                "format": FORMAT,
                "id": self.path.name,
                "kind": kind,
                "status": "running",
                "created": now(),
                "seconds": 0.0,
                "attempts": [],
                "config": config,
                "fingerprint": digest(config),
            }
        manifest["status"] = "running"
        attempt = {"attempt": self.attempt, "started": now(), "status": "running"}
        manifest["attempts"].append(attempt)
        manifest["environment"] = environment()
        write_json(path, manifest)
        return manifest

    def finish(self, status: str, reason: str | None = None) -> None:
        """Record how this attempt ended: done, interrupted or failed."""
        seconds = round(time.monotonic() - self._began, 3)
        last = self.manifest["attempts"][-1]
        last.update(status=status, finished=now(), seconds=seconds)
        if reason:
            last["reason"] = reason
        total = round(self.manifest["seconds"] + seconds, 3)
        self.note(status=status, seconds=total, finished=now())

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None and not self.done:
                status = "failed" if issubclass(kind, Exception) else "interrupted"
                # A full disk or another owner may be why it ended; the error itself says more.
                with contextlib.suppress(OSError, LockedError):
                    self.finish(status, _reason(kind, error))
        finally:
            self._lock.release()


def run_id(slug: str, config: dict[str, Any]) -> str:
    """Name of a new run: today's date, a readable part, and the start of the fingerprint."""
    return f"{time.strftime('%Y%m%d')}-{clean(slug)}-{digest(config)[:6]}"


def clean(text: str) -> str:
    """Text that is safe in a file name.

    >>> clean("Qwen/Qwen3 0.6B")
    'qwen-qwen3-0.6b'
    """
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")[:60] or "run"


def find(root: Path, slug: str, config: dict[str, Any]) -> Path | None:
    """The newest folder under `root` that holds a run of exactly this config."""
    wanted = digest(config)
    for path in sorted(root.glob(f"*-{clean(slug)}-{wanted[:6]}"), reverse=True):
        manifest = path / MANIFEST
        if manifest.is_file() and read_json(manifest).get("fingerprint") == wanted:
            return path
    return None


def check(path: Path, kind: str, config: dict[str, Any]) -> None:
    """Raise `UserError` unless `path` is free, or holds a run of this kind and config."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path}: a run needs a folder, this is a file")
    manifest_path = path / MANIFEST
    if not manifest_path.exists():
        # A process that was killed while it wrote the first manifest leaves a hidden part of it.
        ours = (LOCK, f".{MANIFEST}.")
        others = sorted(x.name for x in path.iterdir() if not x.name.startswith(ours))
        if others:
            raise UserError(f"{path}: not a run folder and not empty (it has {others[0]!r})")
        return
    manifest = read_manifest(path)
    if manifest["kind"] != kind:
        raise UserError(f"{path}: holds a run of {manifest['kind']!r}, wanted {kind!r}")
    changed = differences(manifest["config"], config)
    if changed:
        raise UserError(f"{path}: holds a run of another config: {'; '.join(changed)}")


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a run folder; raises `UserError` for a folder that has none."""
    manifest = read_json(Path(path) / MANIFEST)
    if not isinstance(manifest, dict) or "config" not in manifest or "kind" not in manifest:
        raise UserError(f"{Path(path) / MANIFEST}: not a run's manifest")
    return manifest


def _reason(kind: type[BaseException], error: BaseException | None) -> str:
    return f"{kind.__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")
