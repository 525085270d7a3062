"""What a finetuning run learns from: a config, and the examples with the facts about them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxablate.core.errors import UserError, unknown
from jaxablate.data.batch import Example
from jaxablate.data.chat import ChatTemplate
from jaxablate.data.duplicates import near_duplicates
from jaxablate.data.hub import check_name, library
from jaxablate.data.instruments import check_instrument, instrument_splits
from jaxablate.data.pipeline import examples_digest
from jaxablate.data.records import Records
from jaxablate.data.sft import Encoded, encode, plain, raw
from jaxablate.data.sources import find_file
from jaxablate.data.splits import load_splits
from jaxablate.data.tokenizer import Tokenizer

SAMPLES = Path(__file__).parent / "samples"
HUB, BUNDLED, INSTRUMENTS = "hub", "samples", "instruments"
FORMATS = ("plain", "chat", "raw")
# As the cards of the sets say; others are not known.
LICENCES = {
    "samples/instructions": "Apache-2.0",
    "hub/yahma/alpaca-cleaned": "CC-BY-4.0 (its card; answers made with OpenAI's models)",
    "hub/tatsu-lab/alpaca": "CC-BY-NC-4.0",
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which records, how they are written as text, and how they become rows.

    Attributes:
        folder: "hub", "samples" (a small bundled set), "instruments" (exercises made by rule) or a
            folder with `<name>/<split>.jsonl[.gz]` (or .json, .parquet).
        name: of the data set: "owner/name" or "owner/name:config" on the hub, "instructions"
            among the samples, the task among the instruments, or the subfolder.
        format: "plain" headings, "chat", the checkpoint's own chat template, or "raw", prompt and
            response as they are. Instruments need "raw".
        train_records: how many to train on, a seeded choice; 0 is all, or 20 000 of an instrument.
        eval_records: how many are held out for the loss, a seeded choice; 0 is all, or 500 of an
            instrument. Those of an instrument are the first rows of its task.
        max_length: tokens of a row. A longer example is cut from the right.
        packed: several examples share a row; otherwise each has one of its own.
        seed: of the choices and of the split, not of the order.
        revision: branch, tag or commit of a set on the hub; empty is the newest.
    """

    folder: str = HUB
    name: str = "yahma/alpaca-cleaned"
    format: Literal["plain", "chat", "raw"] = "plain"
    train_records: int = 0
    eval_records: int = 0
    max_length: int = 1024
    packed: bool = True
    seed: int = 0
    revision: str = ""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format of data", self.format, FORMATS)
        least = {"train_records": 0, "eval_records": 0, "max_length": 2, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"data.{name} must be >= {bound}, got {getattr(self, name)}")
        if not self.folder or not self.name:
            raise UserError(f"data needs folder and name, got {self.folder!r} and {self.name!r}")
        if self.folder == INSTRUMENTS:
            check_instrument(self.name)
            if self.format != "raw":
                raise UserError(f"data of instruments need format 'raw', got {self.format!r}")
        if self.folder == HUB:
            check_name(self.name)
        elif self.revision:
            raise UserError(
                f"data.revision is for sets on the hub, got {self.revision!r} with folder "
                f"{self.folder!r}"
            )

    @property
    def path(self) -> Path | None:
        """Where the files lie; None is the hub."""
        if self.folder == HUB:
            return None
        return SAMPLES if self.folder == BUNDLED else Path(self.folder)

    @property
    def licence(self) -> str | None:
        """The set's licence, where it is known."""
        if self.folder == INSTRUMENTS:
            return "Apache-2.0"
        return LICENCES.get(f"{self.folder}/{self.name.partition(':')[0]}")


@dataclass(frozen=True)
class SftData:
    """Encoded examples of both sides.

    Attributes:
        train: what is learned.
        held_out: what the loss is measured on.
        facts: plain JSON values about both, the same on every machine.
    """

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    facts: dict[str, Any]

    def ids(self) -> dict[str, list[str]]:
        """The ids ("<split>:<row>") of the examples of both sides, in order."""
        return {
            "train": [example.id for example in self.train],
            "held_out": [example.id for example in self.held_out],
        }


def check_data(config: DataConfig) -> None:
    """Raises `UserError` if the data cannot be there; reads nothing and asks no network."""
    if config.folder == INSTRUMENTS:
        return
    if config.path is None:
        library()
        return
    if config.folder == BUNDLED:
        known = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())
        if config.name not in known:
            raise unknown("bundled data set", config.name, known)
    find_file(config.path, config.name, "train")


def load_examples(config: DataConfig, tokenizer: Tokenizer) -> SftData:
    """Records of both sides as tokens; what was asked for last in this process is kept.

    Raises:
        UserError: for data that is missing or has no usable record, a chat format without a chat
            template, a tokenizer without EOS.
    """
    check_data(config)
    key = (config, tokenizer.digest, tokenizer.folder, _stamps(config))
    if key not in _recent:
        _recent[key] = _load(config, tokenizer)
        while len(_recent) > KEPT:
            del _recent[next(iter(_recent))]
    return _recent[key]


# Runs of one experiment read the same records: reading Alpaca anew takes half a minute.
KEPT = 4
_recent: dict[Any, SftData] = {}


def _stamps(config: DataConfig) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files that the records come from."""
    if config.path is None or config.folder == INSTRUMENTS:
        return ()
    files = sorted((config.path / config.name).glob("*"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _load(config: DataConfig, tokenizer: Tokenizer) -> SftData:
    render = _RENDERS.get(config.format) or ChatTemplate.load(tokenizer.folder).render
    train, held_out = _splits(config)
    sides = [
        encode(records.rows, tokenizer, max_length=config.max_length, render=render)
        for records in (train, held_out)
    ]
    facts = {
        "name": config.name,
        "licence": config.licence,
        "format": config.format,
        "seed": config.seed,
        "train": _about(train, sides[0]),
        "held_out": _about(held_out, sides[1]),
        "near_duplicates": near_duplicates(train.rows, held_out.rows),
    }
    return SftData(sides[0].examples, sides[1].examples, facts)


_RENDERS = {"plain": plain, "raw": raw}


def _splits(config: DataConfig) -> tuple[Records, Records]:
    limits = {"train_limit": config.train_records, "eval_limit": config.eval_records}
    if config.folder == INSTRUMENTS:
        return instrument_splits(config.name, seed=config.seed, **limits)
    return load_splits(
        config.path, config.name, seed=config.seed, revision=config.revision, **limits
    )


def _about(records: Records, encoded: Encoded) -> dict[str, Any]:
    tokens = {**encoded.to_json(), "digest": examples_digest(encoded.examples)}
    return {**records.to_json(), "encoded": tokens}
