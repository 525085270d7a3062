"""Prepared text on disk: tokens and index of each source, and a manifest with their digests."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from jaxablate.core.config import differences, resolved
from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json, sha256_file, write_atomic, write_json
from jaxablate.data.encoding import Encoded
from jaxablate.data.text_config import SourceConfig, TextConfig, TokenizerConfig

FORMAT = 1
# What may change without preparing again: the examples' cut, the order, the held-out choice.
_LATER = ("max_length", "packed", "held_out_share")
_LATER_OF_SOURCE = ("repeat", "held_out", "licence", "home")


@dataclass(frozen=True)
class SourceText:
    """The tokens of a source's documents, one after the other.

    `index` has a row for each document: id, start, tokens, read_only (in tokens), characters.
    """

    tokens: Integer[np.ndarray, " T"]
    index: np.ndarray


def determining(config: TextConfig, tokenizer: TokenizerConfig) -> dict[str, Any]:
    """The part of the config that the prepared files depend on, as plain values."""
    text = {name: value for name, value in resolved(config).items() if name not in _LATER}
    text["sources"] = {
        source.key: {k: v for k, v in resolved(source).items() if k not in _LATER_OF_SOURCE}
        for source in config.sources
    }
    return {"text": text, "tokenizer": resolved(tokenizer)}


def read_manifest(folder: Path, config: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The manifest of a folder, None without one.

    Raises:
        UserError: where it is of another config or of another version of this program.
    """
    path = folder / "text" / "manifest.json"
    if not path.is_file():
        return None
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path}: not a manifest of prepared text (format {FORMAT})")
    if config is not None:
        changed = differences(manifest["config"], config)
        if changed:
            raise UserError(
                f"{folder / 'text'} holds text of another config ({'; '.join(changed[:3])}); "
                "take another folder or remove it"
            )
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest."""
    write_json(folder / "text" / "manifest.json", manifest)


def write_source(
    folder: Path, source: SourceConfig, documents: Iterable[Encoded], dtype: type[np.integer]
) -> dict[str, Any]:
    """Write the files of one source; return what the manifest says about it."""
    kept: list[Encoded] = []
    hits: list[dict[str, Any]] = []
    dropped: list[str] = []
    for document in documents:
        hits += [hit._asdict() for hit in document.hits]
        if document.tokens is None:
            dropped.append(document.id)
        else:
            kept.append(document)
    if not kept:
        raise UserError(f"source {source.name!r}: nothing is left after decontamination")
    parts = [document.tokens for document in kept if document.tokens is not None]
    tokens = np.concatenate(parts).astype(dtype, copy=False)
    arrays = {"tokens": tokens, "index": _index(kept)}
    return {
        "kind": source.kind,
        "documents": len(kept),
        "tokens": len(tokens),
        "characters": sum(document.characters for document in kept),
        "decontamination": _about_hits(hits, dropped),
        "files": {name: _save(folder, source.key, name, value) for name, value in arrays.items()},
    }


def read_source(folder: Path, key: str, entry: dict[str, Any], *, check: bool) -> SourceText:
    """Memory-mapped files of one source; with `check`, their digests are compared first."""
    if check:
        check_source(folder, key, entry)
    try:
        tokens = np.load(_path(folder, key, "tokens"), mmap_mode="r")
        index = np.load(_path(folder, key, "index"))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder / 'text'}: source {key!r} is not readable ({error})") from None
    # Slices of a plain array are made ten times as fast as those of a memory map.
    return SourceText(np.asarray(tokens).view(np.ndarray), index)


def check_source(folder: Path, key: str, entry: dict[str, Any]) -> None:
    """Raises `UserError` if a file of the source is missing or damaged."""
    for name, digest in entry["files"].items():
        path = _path(folder, key, name)
        if not path.is_file():
            raise UserError(f"{path}: no such file, though the manifest has it; prepare again")
        if sha256_file(path) != digest:
            raise UserError(f"{path}: damaged (its digest is not the manifest's); prepare again")


def _path(folder: Path, key: str, name: str) -> Path:
    return folder / "text" / f"{key}.{name}.npy"


def _save(folder: Path, key: str, name: str, value: np.ndarray) -> str:
    path, buffer = _path(folder, key, name), io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    write_atomic(path, buffer.getvalue())
    return sha256_file(path)


def _index(documents: list[Encoded]) -> np.ndarray:
    ids = [document.id.encode() for document in documents]
    columns = [("start", "<i8"), ("tokens", "<i8"), ("read_only", "<i8"), ("characters", "<i8")]
    index = np.zeros(len(documents), [("id", f"S{max(map(len, ids))}"), *columns])
    lengths = [len(document.tokens) for document in documents if document.tokens is not None]
    index["id"], index["tokens"] = ids, lengths
    index["start"] = np.cumsum(index["tokens"]) - index["tokens"]
    index["read_only"] = [document.read_only for document in documents]
    index["characters"] = [document.characters for document in documents]
    return index


def _about_hits(hits: list[dict[str, Any]], dropped: list[str]) -> dict[str, Any]:
    tasks = sorted({hit["task"] for hit in hits})
    return {
        "hits": len(hits),
        "by_task": {task: sum(hit["task"] == task for hit in hits) for task in tasks},
        "documents_dropped": len(dropped),
        "dropped": dropped,
        "found": hits,
    }
