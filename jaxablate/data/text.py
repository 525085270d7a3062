"""Text to train on from scratch: prepared once (tokenizer, tokens on disk), then read as examples.

documents --> protected rows cut out --> tokens, EOS behind each document --> files + manifest
files --> documents cut into examples of at most `max_length` tokens, held-out ones apart
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.core.failpoints import failpoint
from jaxablate.core.files import sha256_file
from jaxablate.core.watch import tell
from jaxablate.data.batch import Example
from jaxablate.data.decontaminate import Protected
from jaxablate.data.document import Document
from jaxablate.data.documents import read_documents, source_files
from jaxablate.data.encoding import Encoder, encoders, token_type
from jaxablate.data.pipeline import examples_digest
from jaxablate.data.sft_config import SftData
from jaxablate.data.text_config import SourceConfig, TextConfig, TokenizerConfig
from jaxablate.data.text_files import (
    FORMAT,
    SourceText,
    check_source,
    determining,
    read_manifest,
    read_source,
    write_manifest,
    write_source,
)
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.data.tokenizer_training import copy_tokenizer, sample, train_tokenizer

# Told of the work's name, of what is done and of the whole, in bytes.
Progress = Callable[[str, int, int], None]


def prepare_text(
    config: TextConfig,
    tokenizer: TokenizerConfig,
    folder: Path,
    *,
    progress: Progress = tell,
    processes: int = 0,
) -> None:
    """Make the tokenizer in `folder` and the tokens of every source in `folder`/text.

    What is finished stays: after an interruption the same call goes on, and when all is there it
    does nothing. The files are the same bytes for the same config and texts.

    Args:
        config: the texts.
        tokenizer: what encodes them.
        folder: where to write; of a checkpoint, or to become one.
        progress: is told how far the work is.
        processes: that encode at the same time; 0 is one a core.

    Raises:
        UserError: for missing or broken texts, prepared files that are damaged, and a folder
            with text of another config.
    """
    (folder / "text").mkdir(parents=True, exist_ok=True)
    wanted = determining(config, tokenizer)
    manifest = read_manifest(folder, wanted)
    done = {} if manifest is None else manifest["sources"]
    for key, entry in done.items():
        check_source(folder, key, entry)
    missing = [source for source in config.sources if source.key not in done]
    if manifest is not None:
        _check_tokenizer(folder, manifest)
        if not missing:
            return
    protected = Protected.load(config.protect)
    if manifest is None:
        _make_tokenizer(config, tokenizer, protected, folder, progress)
        digest = Tokenizer.load(folder).digest
        manifest = {"format": FORMAT, "config": wanted, "tokenizer": digest, "sources": {}}
        write_manifest(folder, manifest)
    with encoders(Encoder(folder, protected), processes) as workers:
        for source in missing:
            failpoint("text.before_source")
            documents = _documents(source, "encoding", progress)
            encoded = workers.encode_all(documents, whole=source.kind != "files")
            entry = write_source(folder, source, encoded, token_type(folder))
            about = {"licence": source.licence, "home": source.home}
            read_from = {path.name: sha256_file(path) for path in _files(source)}
            manifest["sources"][source.key] = {**about, "read_from": read_from, **entry}
            write_manifest(folder, manifest)


def load_text(folder: Path, config: TextConfig, *, check: bool = True) -> SftData:
    """The examples of prepared text: views on memory-mapped tokens, ids "source/document#number".

    A document longer than `max_length` becomes several examples. Each begins with the last token
    of the one before, so every token but a document's first is predicted once.

    Args:
        folder: what `prepare_text` was given.
        config: the same texts; how they are cut and held out may differ.
        check: compare the files' digests with the manifest's.

    Raises:
        UserError: for text that is missing, unfinished, damaged or of another config.
    """
    manifest = _finished(folder, config)
    sides: tuple[list[Example], list[Example]] = ([], [])
    about = {}
    for source in config.sources:
        entry = manifest["sources"][source.key]
        text = read_source(folder, source.key, entry, check=check)
        held_out = _held_out(source, text, config)
        train = list(_examples(source.key, text, ~held_out, config.max_length))
        apart = list(_examples(source.key, text, held_out, config.max_length))
        sides[0].extend(train * source.repeat)
        sides[1].extend(apart)
        about[source.key] = {
            "licence": source.licence or None,
            "documents": entry["documents"],
            "tokens": entry["tokens"],
            "held_out_documents": int(held_out.sum()),
            "held_out_tokens": int(text.index["tokens"][held_out].sum()),
            "repeat": source.repeat,
            "dropped": entry["decontamination"]["by_task"],
            "digest": entry["files"]["tokens"],
        }
    if config.held_out_share and not sides[1]:
        raise UserError(
            f"no document of {sum(entry['documents'] for entry in about.values())} is held out at "
            f"held_out_share {config.held_out_share}; wanted a larger share, or 0"
        )
    facts = {
        "format": "text",
        "seed": config.seed,
        "tokenizer": manifest["tokenizer"],
        "sources": about,
        "train": _about(sides[0]),
        "held_out": _about(sides[1]),
    }
    return SftData(tuple(sides[0]), tuple(sides[1]), facts)


def _documents(
    source: SourceConfig, work: str, progress: Progress, *, named: bool = False
) -> Iterator[Document]:
    """The documents of a source; `named` puts the source before their ids."""
    name = f"{work} {source.key}"
    for document in read_documents(source, lambda done, total: progress(name, done, total)):
        yield document._replace(id=f"{source.key}/{document.id}") if named else document


def _files(source: SourceConfig) -> list[Path]:
    return [] if source.kind == "synthetic" else source_files(source)


def _make_tokenizer(
    config: TextConfig,
    tokenizer: TokenizerConfig,
    protected: Protected,
    folder: Path,
    progress: Progress,
) -> None:
    """Train on learned texts only: nothing that is held out or protected."""
    if tokenizer.path:
        copy_tokenizer(Path(tokenizer.path), folder)
        return
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder} is a checkpoint already, its tokenizer would be replaced; take another "
            "folder, or name it as tokenizer.path"
        )
    learned = [source for source in config.sources if not source.held_out]
    streams = [
        (
            document
            for document in _documents(source, "sampling", progress, named=True)
            if not is_held_out(document.id, config)
        )
        for source in learned
    ]
    texts = sample(streams, megabytes=tokenizer.train_megabytes, seed=config.seed)
    train_tokenizer(_clean(texts, protected, progress), tokenizer, folder)


def _clean(texts: list[str], protected: Protected, progress: Progress) -> Iterator[str]:
    done, total = 0, sum(map(len, texts))
    for text in texts:
        kept, _ = protected.clean(Document("", text), whole=False)
        if kept is not None:
            yield kept.text
        done += len(text)
        progress("training the tokenizer", done, total)


def is_held_out(name: str, config: TextConfig) -> bool:
    """Whether a document ("source/id") is held out: a hash decides, whatever else there is."""
    rank = hashlib.sha256(f"{config.seed}:{name}".encode()).digest()[:8]
    return int.from_bytes(rank) < config.held_out_share * 2**64


def _check_tokenizer(folder: Path, manifest: dict[str, Any]) -> None:
    if Tokenizer.load(folder).digest != manifest["tokenizer"]:
        raise UserError(f"{folder}: the tokenizer is not the one that its text was encoded with")


def _finished(folder: Path, config: TextConfig) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{folder / 'text'}: no prepared text (no manifest.json)")
    wanted = {**manifest["config"], "text": determining(config, TokenizerConfig())["text"]}
    read_manifest(folder, wanted)
    missing = [source.key for source in config.sources if source.key not in manifest["sources"]]
    if missing:
        raise UserError(f"{folder / 'text'}: not finished ({missing[0]!r} is missing); prepare it")
    _check_tokenizer(folder, manifest)
    return manifest


def _held_out(source: SourceConfig, text: SourceText, config: TextConfig) -> np.ndarray:
    if source.held_out:
        return np.ones(len(text.index), np.bool_)
    names = (f"{source.key}/{name.decode()}" for name in text.index["id"].tolist())
    return np.array([is_held_out(name, config) for name in names], np.bool_)


def _examples(key: str, text: SourceText, chosen: np.ndarray, max_length: int) -> Iterator[Example]:
    index = text.index[chosen]
    columns = [index[name].tolist() for name in ("id", "start", "tokens", "read_only")]
    for name, start, length, read_only in zip(*columns, strict=True):
        document = f"{key}/{name.decode()}#"
        step = max_length - 1
        for number, first in enumerate(range(0, length - 1, step)):
            size = min(max_length, length - first)
            prompt = max(1, read_only - first)
            # An example of nothing but what is read would teach nothing.
            if prompt < size:
                tokens = text.tokens[start + first : start + first + size]
                yield Example(f"{document}{number}", tokens, prompt)


def _about(examples: list[Example]) -> dict[str, Any]:
    return {
        "examples": len(examples),
        "tokens": sum(len(example.tokens) for example in examples),
        "digest": examples_digest(examples),
    }
