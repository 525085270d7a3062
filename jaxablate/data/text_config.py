"""Which texts a model is trained on from scratch, what they must not contain, its tokenizer."""

import re
from dataclasses import dataclass
from typing import Literal

from jaxablate.core.errors import UserError, unknown

KINDS = ("files", "task", "synthetic")
STYLES = ("tekken", "qwen")
# A name becomes a file name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source of documents.

    Attributes:
        kind: "files" (`paths`), "task" (the rows of a benchmark's training split, as text) or
            "synthetic" (made by a generator of jaxablate).
        name: the source's own name; of the benchmark or generator for the other two kinds.
        paths: files, or patterns such as "corpus/*.jsonl.xz": .jsonl has one document a line,
            .txt is one document; both may be compressed (.gz, .xz).
        field: of a line of .jsonl: where the text is.
        id_field: of a line of .jsonl: what names the document; empty is file and line.
        folder: of benchmark data, with `<name>/<split>.jsonl[.gz]` in it.
        split: of the benchmark's rows.
        documents: how many a generator makes; of other kinds, how many are taken at most, 0 all.
        seed: of a generator.
        repeat: copies in an epoch.
        held_out: all of it is for the held-out loss, none of it is learned.
        licence: what the manifest and the model's card say about it.
        home: likewise, where it comes from.
    """

    kind: Literal["files", "task", "synthetic"]
    name: str
    paths: tuple[str, ...] = ()
    field: str = "text"
    id_field: str = ""
    folder: str = ""
    split: str = "train"
    documents: int = 0
    seed: int = 0
    repeat: int = 1
    held_out: bool = False
    licence: str = ""
    home: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of source", self.kind, KINDS)
        if not _NAME.fullmatch(self.key):
            raise UserError(
                f"a source's name and split are letters, digits, '.', '_' and '-', got {self.key!r}"
            )
        needed = {"files": "paths", "task": "folder", "synthetic": "documents"}[self.kind]
        if not getattr(self, needed):
            raise UserError(f"source {self.name!r} of kind {self.kind!r} needs {needed!r}")
        for name, bound in {"documents": 0, "seed": 0, "repeat": 1}.items():
            if getattr(self, name) < bound:
                raise UserError(
                    f"source {self.name!r}: {name} must be >= {bound}, got {getattr(self, name)}"
                )

    @property
    def key(self) -> str:
        """Names the source's files and begins the ids of its documents.

        >>> SourceConfig(kind="task", name="piqa", folder="data", split="validation").key
        'piqa-validation'
        """
        if self.kind == "task" and self.split != "train":
            return f"{self.name}-{self.split}"
        return f"{self.name}-{self.seed}" if self.kind == "synthetic" and self.seed else self.name


@dataclass(frozen=True, kw_only=True)
class ProtectConfig:
    """Benchmark rows that no document may contain; see `data.decontaminate`.

    Attributes:
        folder: of benchmark data, with `<task>/<split>.jsonl[.gz]` in it.
        tasks: which benchmarks; none protects nothing.
        split: which rows of them.
        ngram: so many equal words in a row are a copy.
    """

    folder: str = ""
    tasks: tuple[str, ...] = ()
    split: str = "validation"
    ngram: int = 13

    def __post_init__(self) -> None:
        if self.ngram < 2:
            raise UserError(f"protect.ngram must be >= 2, got {self.ngram}")
        if len(set(self.tasks)) != len(self.tasks):
            raise UserError(f"protect.tasks has a name twice: {', '.join(self.tasks)}")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The texts of a training from scratch, and how they become rows.

    Attributes:
        sources: where the documents come from.
        max_length: tokens of a row; a longer document is cut into several examples.
        packed: several examples share a row; otherwise each has one of its own.
        held_out_share: of the documents, for the held-out loss, chosen by a hash of their id.
        protect: what must not be learned.
        seed: of the held-out choice, and of the tokenizer's sample.
    """

    sources: tuple[SourceConfig, ...]
    max_length: int = 1024
    packed: bool = True
    held_out_share: float = 0.002
    protect: ProtectConfig = ProtectConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        keys = [source.key for source in self.sources]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise UserError(f"two sources share a name: {', '.join(twice)}")
        if all(source.held_out for source in self.sources):
            raise UserError("text needs at least one source that is not held out")
        if self.max_length < 2 or self.seed < 0:
            raise UserError(
                f"max_length must be >= 2 and seed >= 0, got {self.max_length} and {self.seed}"
            )
        if not 0 <= self.held_out_share < 1:
            raise UserError(f"held_out_share must be within [0, 1), got {self.held_out_share}")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A tokenizer to train on the texts, or one that exists.

    Attributes:
        style: how text is split before merging, and the special tokens: "tekken" (Ministral-3's)
            or "qwen" (Qwen's, after NFC).
        vocab_size: tokens in all, the special ones among them.
        train_megabytes: of UTF-8 text to learn the merges from, shared evenly among the sources.
        path: folder of an existing tokenizer to take instead.
    """

    style: Literal["tekken", "qwen"] = "tekken"
    vocab_size: int = 8192
    train_megabytes: int = 64
    path: str = ""

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise unknown("tokenizer style", self.style, STYLES)
        if self.vocab_size < 300 or self.train_megabytes < 1:
            raise UserError(
                "a tokenizer needs vocab_size >= 300 and train_megabytes >= 1, "
                f"got {self.vocab_size} and {self.train_megabytes}"
            )
