"""Documents to tokens, in several processes; what comes out does not depend on how many.

The first process reads; the others look for protected rows and encode.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Integer

from jaxablate.core.errors import UserError
from jaxablate.data.decontaminate import Hit, Protected
from jaxablate.data.document import Document
from jaxablate.data.tokenizer import Tokenizer, first_token_past

# Less text than this is not worth the start of processes.
SMALL_CHARACTERS = 8_000_000
_MOST_PROCESSES = 32
_BATCH_CHARACTERS = 1 << 20


class Encoded(NamedTuple):
    """A document's tokens, EOS at the end; the first `read_only` are read but not learned.

    `tokens` is None where nothing of the document is left.
    """

    id: str
    tokens: Integer[np.ndarray, " T"] | None
    read_only: int
    characters: int
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Encoder:
    """Turns documents into tokens; may be sent to another process."""

    folder: Path
    protected: Protected

    def __post_init__(self) -> None:
        tokenizer = Tokenizer.load(self.folder)
        if tokenizer.eos_id is None:
            raise UserError(f"{self.folder}: documents end with EOS, this tokenizer has none")

    def encode(self, document: Document, *, whole: bool) -> Encoded:
        """One document; `whole` as in `decontaminate.Protected.clean`."""
        kept, hits = self.protected.clean(document, whole=whole)
        if kept is None:
            return Encoded(document.id, None, 0, 0, tuple(hits))
        core, eos_id, dtype = _core(self.folder)
        text = kept.text
        read_only = 0
        if kept.read_only:
            encoding = core.encode(text, add_special_tokens=False)
            read_only = first_token_past(encoding.offsets, kept.read_only)
        else:
            (encoding,) = core.encode_batch_fast([text], add_special_tokens=False)
        tokens = np.array([*encoding.ids, eos_id], dtype)
        return Encoded(document.id, tokens, read_only, len(text), tuple(hits))


class Encoders:
    """An encoder at work in this process, and in others once there is much to do."""

    def __init__(self, encoder: Encoder, processes: int):
        self._encoder, self._processes = encoder, processes
        self._pool: ProcessPoolExecutor | None = None
        self._alone_characters = 0

    def encode_all(self, documents: Iterable[Document], *, whole: bool) -> Iterator[Encoded]:
        """Every document, in order."""
        waiting: deque[Future[list[Encoded]]] = deque()
        for batch in _batches(documents):
            pool = self._others()
            if pool is None:
                self._alone_characters += sum(len(document.text) for document in batch)
                yield from _encode_batch(self._encoder, batch, whole)
                continue
            waiting.append(pool.submit(_encode_there, batch, whole))
            while len(waiting) > 2 * self._processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

    def close(self) -> None:
        """End the other processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _others(self) -> ProcessPoolExecutor | None:
        if self._processes < 2 or self._alone_characters < SMALL_CHARACTERS:
            return None
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._processes,
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(self._encoder,),
            )
        return self._pool


@contextmanager
def encoders(encoder: Encoder, processes: int = 0) -> Iterator[Encoders]:
    """An encoder with so many processes at most; 0 is one a core."""
    made = Encoders(encoder, processes or min(os.cpu_count() or 1, _MOST_PROCESSES))
    try:
        yield made
    finally:
        made.close()


_HERE: list[Encoder] = []


def _begin(encoder: Encoder) -> None:
    _HERE[:] = [encoder]


def _encode_there(batch: list[Document], whole: bool) -> list[Encoded]:
    return _encode_batch(_HERE[0], batch, whole)


def _encode_batch(encoder: Encoder, batch: list[Document], whole: bool) -> list[Encoded]:
    return [encoder.encode(document, whole=whole) for document in batch]


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@lru_cache(maxsize=2)
def _core(folder: Path) -> tuple[Any, int, type[np.unsignedinteger]]:
    """The tokenizer that reads special tokens in a text as plain text, EOS, and the ids' type."""
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.eos_id is not None
    core = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    core.no_padding()
    core.no_truncation()
    core.encode_special_tokens = True
    return core, tokenizer.eos_id, np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32


def token_type(folder: Path) -> type[np.unsignedinteger]:
    """The smallest type for a tokenizer's ids."""
    return _core(folder)[2]
