"""One writer a folder: an exclusive lock that ends with the process, and a note of who holds it."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

from jaxablate.core.errors import UserError

NAME = ".lock"


class LockedError(UserError):
    """Another process writes into this folder."""


class FolderLock:
    """Holds `<folder>/.lock` until `release`; a second holder is refused by name.

    `attempt` is the number of this holder, one more than the last one's, and is durable before
    anything else is written.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / NAME
        # Descriptors are not inherited by children (PEP 446), so a child cannot hold the lock on.
        self._file: IO[bytes] = open(self.path, "a+b")  # noqa: SIM115 - held until release()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _describe(self._read())
            self._file.close()
            raise LockedError(f"{folder}: another process writes here ({owner})") from None
        except OSError as error:
            self._file.close()
            raise UserError(f"{folder}: cannot be locked ({error.strerror})") from None
        before = self._read().get("attempt")
        self.attempt = (before if isinstance(before, int) else 0) + 1
        self._note({**owner_facts(), "attempt": self.attempt})

    def _read(self) -> dict[str, Any]:
        self._file.seek(0)
        try:
            facts = json.loads(self._file.read() or b"{}")
        except ValueError:
            return {}
        return facts if isinstance(facts, dict) else {}

    def _note(self, facts: dict[str, Any]) -> None:
        self._file.truncate(0)
        self._file.write(json.dumps(facts).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def check(self) -> None:
        """Raise `LockedError` unless the file on disk still is this holder's.

        A process that slept through the loss of its lock (a file replaced or deleted, a network
        disk that let go) finds a later attempt here, and must not write any more.
        """
        try:
            held, there = os.fstat(self._file.fileno()), self.path.stat()
            facts = json.loads(self.path.read_bytes())
            mine = os.path.samestat(held, there) and facts["attempt"] == self.attempt
        except (OSError, ValueError, TypeError, KeyError):  # gone, released, or being written
            facts, mine = {}, False
        if not mine:
            raise LockedError(
                f"{self.path.parent}: this process does not own it any more ({_describe(facts)})"
            )

    def release(self) -> None:
        """Let go; the file stays, since a deleted one could be locked twice."""
        self._file.close()


def owner_facts() -> dict[str, Any]:
    """Who this process is, on this boot of this machine."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": _boot_id(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _describe(facts: dict[str, Any]) -> str:
    if not facts:
        return "it left no name"
    return f"pid {facts.get('pid')} on {facts.get('host')}, since {facts.get('since')}"


def _boot_id() -> str | None:
    path = Path("/proc/sys/kernel/random/boot_id")
    try:
        return path.read_text().strip()
    except OSError:
        return None
