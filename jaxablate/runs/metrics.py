"""Results of a run as they come: plain JSON, one line an entry, continued exactly after a crash.

Unlike the journal this file is for people and for other programs too, so its lines carry no
checksum. A number that JSON cannot say is written as text, "NaN" or "-Infinity", and read back as
the number.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.core.files import sync_folder

_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsLog:
    """A file of entries, opened for appending. The caller holds the run's lock.

    Attributes:
        path: the file.
        position: lines in it.
    """

    def __init__(self, path: str | Path, position: int | None = None):
        """Open or make the file.

        Args:
            path: the file.
            position: keep so many lines and cut what follows; a resumed run writes it again. None
                keeps all whole lines.

        Raises:
            UserError: when a line that is to be kept is damaged, or there are fewer than
                `position`; the file is then left as it was.
        """
        self.path = Path(path)
        existed = self.path.exists()
        # Unbuffered: a line goes to the system in one piece, and other readers see it at once.
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - held until close()
        try:
            self._file.seek(0)
            raw = self._file.read()
            entries, size = parse(raw, self.path, position)
            if position is not None and len(entries) < position:
                raise UserError(
                    f"{self.path}: {position} lines were written before, "
                    f"only {len(entries)} of them are there"
                )
            if size < len(raw):
                self._file.truncate(size)
                self.sync()
        except BaseException:
            self._file.close()
            raise
        self.position, self._size = len(entries), size
        if not existed:
            sync_folder(self.path.parent)

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry whole or, when that fails, not at all."""
        raw = line(entry)
        try:
            written = 0
            while written < len(raw):
                written += self._file.write(raw[written:])
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(raw)
        self.position += 1

    def sync(self) -> None:
        """Make everything appended so far survive a crash of the machine."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file; a second time does nothing."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def line(entry: dict[str, Any]) -> bytes:
    r"""One entry as it stands in the file.

    >>> line({"step": 10, "loss": float("nan")})
    b'{"step":10,"loss":"NaN"}\n'
    """
    text = json.dumps(_spelled(entry), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def parse(
    raw: bytes, where: str | Path, most: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Entries of a file, and how many bytes they take; a torn last line is left out.

    Args:
        raw: the file's content.
        where: its name, for messages.
        most: read no more entries than this.

    Raises:
        UserError: when a line before the last one is damaged.
    """
    entries: list[dict[str, Any]] = []
    size = 0
    lines = raw.split(b"\n")
    # After the last newline stands nothing, or a line that was never finished.
    for number, text in enumerate(lines[:-1][:most], start=1):
        entry = _entry(text)
        if entry is None:
            if number == len(lines) - 1 and not lines[-1]:
                break
            raise UserError(f"{where}: line {number} is damaged and it is not the last")
        entries.append(entry)
        size += len(text) + 1
    return entries, size


def parse_whole(raw: bytes) -> list[dict[str, Any]]:
    r"""Entries of whole lines of a file that somebody else writes; damaged ones are left out.

    >>> parse_whole(b'{"step":1}\n{"st\n{"step":3}\n')
    [{'step': 1}, {'step': 3}]
    """
    return [entry for text in raw.split(b"\n") if (entry := _entry(text)) is not None]


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Entries of a file that may still be written; a torn last line is left out.

    Raises:
        UserError: for a file that is not there, or damaged before its last line.
    """
    try:
        return parse(Path(path).read_bytes(), path)[0]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def _entry(text: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _restored(entry) if isinstance(entry, dict) else None


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return _inside(value, _spelled)


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return _NAMES.get(value, value)
    return _inside(value, _restored)


def _inside(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [change(item) for item in value]
    return value
