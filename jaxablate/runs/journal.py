"""An append-only file of finished work: one checked JSON line an entry, durable when `append` ends.

A line is `{"crc":"<8 hex>","entry":{...}}`. A crash can tear the last line; it is cut when the file
is opened again. Anything torn before that is damage, and the file is refused.
"""

import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.core.files import sync_folder

Entry = dict[str, Any]
LINE = re.compile(rb'\{"crc":"([0-9a-f]{8})","entry":(.*)\}', re.DOTALL)


class Journal:
    """Entries of one file, those read at opening and those appended since.

    The caller holds the run's lock: a journal has one writer.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.entries: list[Entry] = []
        self.cut_bytes = 0
        existed = self.path.exists()
        self._file = open(self.path, "a+b")  # noqa: SIM115 - held until close()
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        if not existed:
            sync_folder(self.path.parent)

    def _load(self) -> None:
        self._file.seek(0)
        raw = self._file.read()
        self.entries, good = parse(raw, self.path)
        self.cut_bytes = len(raw) - good
        if self.cut_bytes:
            self._file.truncate(good)
            self._sync()

    def append(self, entry: Entry) -> None:
        """Write one entry; when this returns it survives a crash of the machine."""
        self._file.write(line(entry))
        self._sync()
        self.entries.append(entry)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; the object keeps its entries."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def line(entry: Entry) -> bytes:
    """One entry as it stands in the file."""
    body = json.dumps(entry, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f'{{"crc":"{_crc(body)}","entry":{body}}}\n'.encode()


def parse(raw: bytes, where: str | Path) -> tuple[list[Entry], int]:
    """All entries, and how many bytes they take; fewer than there are if the last line is torn.

    Raises:
        UserError: when a line before the last one is damaged.
    """
    entries: list[Entry] = []
    good = 0
    lines = raw.split(b"\n")
    # After the last newline stands nothing, or a line that was never finished.
    for number, text in enumerate(lines[:-1], start=1):
        entry = _entry(text)
        if entry is None:
            if number == len(lines) - 1 and not lines[-1]:
                break
            raise UserError(
                f"{where}: line {number} is damaged and it is not the last; "
                "nothing was changed, start anew in another folder"
            )
        entries.append(entry)
        good += len(text) + 1
    return entries, good


def read(path: str | Path) -> list[Entry]:
    """Entries of a journal without opening it for writing; a torn last line is left out."""
    try:
        return parse(Path(path).read_bytes(), path)[0]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def _entry(text: bytes) -> Entry | None:
    match = LINE.fullmatch(text)
    try:
        if match is None or match[1].decode() != _crc(match[2].decode()):
            return None
        entry = json.loads(match[2])
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _crc(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
