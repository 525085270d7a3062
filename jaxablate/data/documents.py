"""Documents to train on from scratch, read from files, benchmark rows and generators."""

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from jaxablate.core.errors import UserError
from jaxablate.data.document import Document
from jaxablate.data.hub import one_line
from jaxablate.data.sources import find_file
from jaxablate.data.text_config import SourceConfig

__all__ = ["Document", "read_documents", "source_files"]

SUFFIXES = tuple(kind + packing for kind in (".jsonl", ".txt") for packing in ("", ".gz", ".xz"))
_MAX_ID_BYTES = 256
# Told how much of a source is read, and of how much.
Reading = Callable[[int, int], None]


def read_documents(
    source: SourceConfig, reading: Reading = lambda _done, _total: None
) -> Iterator[Document]:
    """The documents of a source, in a fixed order; empty ones are left out.

    Raises:
        UserError: for a missing or broken file, a line without text, an id that comes twice.
    """
    limit = source.documents or None
    return _checked(islice(_OF_KIND[source.kind](source, reading), limit), source)


def source_files(source: SourceConfig) -> list[Path]:
    """The files that a source is read from; none for a generator."""
    if source.kind == "task":
        return [find_file(Path(source.folder), source.name, source.split)]
    files: list[Path] = []
    for pattern in source.paths:
        path = Path(pattern)
        root = Path(path.anchor) if path.is_absolute() else Path()
        relative = path.relative_to(root) if path.is_absolute() else path
        found = sorted(item for item in root.glob(str(relative)) if item.is_file())
        if not found:
            raise UserError(f"source {source.name!r}: no file matches {pattern!r}")
        files += [item for item in found if item not in files]
    for path in files:
        if not path.name.endswith(SUFFIXES):
            raise UserError(f"{path}: wanted a file that ends with {' or '.join(SUFFIXES)}")
    return files


def _checked(documents: Iterable[Document], source: SourceConfig) -> Iterator[Document]:
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise UserError(f"source {source.name!r}: two documents have the id {document.id!r}")
        if not 0 < len(document.id.encode()) <= _MAX_ID_BYTES:
            raise UserError(
                f"source {source.name!r}: an id has 1 to {_MAX_ID_BYTES} bytes, "
                f"got {document.id!r:.80}"
            )
        seen.add(document.id)
        if document.text.strip():
            # JSON may hold half a character (a lone surrogate), which is no text.
            text = document.text.encode("utf-8", "replace").decode()
            yield Document(document.id, text, document.read_only)
    if not seen:
        raise UserError(f"source {source.name!r} has no documents")


def _from_files(source: SourceConfig, reading: Reading) -> Iterator[Document]:
    files = source_files(source)
    total, before = sum(path.stat().st_size for path in files), 0
    for path in files:
        for document, position in _file_documents(path, source):
            reading(before + position, total)
            yield document
        before += path.stat().st_size
        reading(before, total)


def _file_documents(path: Path, source: SourceConfig) -> Iterator[tuple[Document, int]]:
    """Documents of one file, each with how far the file is read (in bytes of the file)."""
    stem, lines = path.name, 0
    for suffix in (".gz", ".xz", ".jsonl", ".txt"):
        stem = stem.removesuffix(suffix)
    is_table = ".jsonl" in path.name[len(stem) :]
    try:
        with open(path, "rb") as raw, _unpacked(path, raw) as file:
            if not is_table:
                yield Document(stem, file.read().decode("utf-8-sig")), raw.tell()
                return
            for line in file:
                lines += 1
                if line.strip():
                    row = json.loads(line.decode("utf-8-sig"))
                    where = f"{path}: line {lines}"
                    text, name = _text(row, source.field, where), f"{stem}:{lines}"
                    if source.id_field:
                        name = _text(row, source.id_field, where)
                    yield Document(name, text), raw.tell()
    except UserError:
        raise
    except (ValueError, RecursionError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        after = f"line {lines}: " if is_table else ""
        raise UserError(f"{path}: {after}not readable ({one_line(error)})") from None


def _unpacked(path: Path, raw: IO[bytes]) -> Any:
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix)
    return opener(raw, "rb") if opener else raw


def _text(row: Any, field: str, where: str) -> str:
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise UserError(f"{where}: wanted text in field {field!r}, got {value!r:.80}")
    return value


def _from_task(source: SourceConfig, reading: Reading) -> Iterator[Document]:
    from jaxablate.data.task_text import task_documents

    size = source_files(source)[0].stat().st_size
    yield from task_documents(source.name, source.split, folder=source.folder)
    reading(size, size)


def _from_generator(source: SourceConfig, reading: Reading) -> Iterator[Document]:
    from jaxablate.data import synthetic

    made = synthetic.documents(source.name, count=source.documents, seed=source.seed)
    size = 0
    for number, document in enumerate(made, start=1):
        yield document
        # The whole is not known in bytes before it is made.
        size += len(document.text)
        reading(size, round(size * source.documents / number))


_OF_KIND = {"files": _from_files, "task": _from_task, "synthetic": _from_generator}
