"""Benchmark rows from local files or the hub, checked against a schema, with a digest.

Local layout: `<folder>/<task>/<split>.jsonl[.gz]` (or .json, .parquet), field names as on the hub.
Rows of an instrument are made by rule; they lie nowhere.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import digest
from jaxablate.data import synthetic
from jaxablate.data.hub import library, one_line

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
SUBSETS = ("head", "random")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a benchmark lives, under which licence, and what a row of it must have.

    `fields` says the kind of each field: "text", "integer", "label" (text or integer), "texts"
    (a list of them), "offsets" (rising integers, or none), "choices" (the ARC table of texts and
    labels). With `made` the rows are made by rule and `hub` is empty.
    """

    hub: str
    config: str | None
    licence: str
    home: str
    fields: Mapping[str, str]
    made: bool = False


_INSTRUMENT = Source(
    hub="",
    config=None,
    licence="Apache-2.0",
    home="jaxablate",
    fields={"prompt": "text", "parts": "offsets", "choices": "texts", "label": "integer"},
    made=True,
)
_ARC = {"question": "text", "choices": "choices", "answerKey": "label"}
SOURCES: dict[str, Source] = {
    "hellaswag": Source(
        hub="Rowan/hellaswag",
        config=None,
        licence="MIT",
        home="https://github.com/rowanz/hellaswag",
        fields={
            "activity_label": "text",
            "ctx_a": "text",
            "ctx_b": "text",
            "endings": "texts",
            "label": "label",
        },
    ),
    "piqa": Source(
        hub="baber/piqa",
        config=None,
        licence="AFL-3.0",
        home="https://github.com/ybisk/ybisk.github.io/tree/master/piqa",
        fields={"goal": "text", "sol1": "text", "sol2": "text", "label": "label"},
    ),
    "arc_easy": Source(
        hub="allenai/ai2_arc",
        config="ARC-Easy",
        licence="CC-BY-SA-4.0",
        home="https://allenai.org/data/arc",
        fields=_ARC,
    ),
    "arc_challenge": Source(
        hub="allenai/ai2_arc",
        config="ARC-Challenge",
        licence="CC-BY-SA-4.0",
        home="https://allenai.org/data/arc",
        fields=_ARC,
    ),
    "winogrande": Source(
        hub="allenai/winogrande",
        config="winogrande_xl",
        licence="CC-BY",
        home="https://github.com/allenai/winogrande",
        fields={"sentence": "text", "option1": "text", "option2": "text", "answer": "label"},
    ),
    **dict.fromkeys(synthetic.instrument_names(), _INSTRUMENT),
}
MADE = "made by jaxablate"


@dataclass(frozen=True)
class Rows:
    """Rows of one split with their indices in it. `digest` names the whole split's content."""

    rows: tuple[Row, ...]
    indices: tuple[int, ...]
    total: int
    digest: str
    origin: str

    def __len__(self) -> int:
        return len(self.rows)


def source(name: str) -> Source:
    """The entry of `SOURCES`; raises `UserError` that lists the names."""
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    return SOURCES[name]


def licences() -> list[dict[str, str]]:
    """The table of sources, one line each."""
    return [
        {
            "data set": name,
            "hub": MADE if entry.made else entry.hub + _in_brackets(entry.config),
            "licence": entry.licence,
            "home": entry.home,
        }
        for name, entry in SOURCES.items()
    ]


def _in_brackets(config: str | None) -> str:
    return f" ({config})" if config else ""


def load_rows(
    name: str,
    split: str,
    *,
    folder: str | Path | None = None,
    limit: int = 0,
    subset: str = "head",
    seed: int = 0,
) -> Rows:
    """Rows of a benchmark's split.

    Args:
        name: entry of `SOURCES`.
        split: such as "validation".
        folder: local data; None asks the hub, through `datasets`. Rows that are made need neither.
        limit: how many rows; 0 takes all.
        subset: "head" takes the first ones, "random" a seeded choice, in the split's order.
        seed: of the random choice.

    Raises:
        UserError: for a missing file, a broken line, a row that lacks a field.
    """
    entry = source(name)
    if entry.made:
        made = synthetic.rows(name, split)
        origin, numbered = MADE, ((f"{name}: row {i}", row) for i, row in enumerate(made))
    elif folder is None:
        origin, numbered = f"hub:{entry.hub}", _hub_rows(entry, split)
    else:
        path = find_file(Path(folder), name, split)
        origin, numbered = path.name, read_numbered(path)
    checked = [check_row(row, entry.fields, where) for where, row in numbered]
    if not checked:
        raise UserError(f"{name}: split {split!r} has no rows in {origin}")
    chosen = choose(len(checked), limit=limit, subset=subset, seed=seed)
    rows = tuple(checked[index] for index in chosen)
    return Rows(rows, chosen, len(checked), rows_digest(checked, entry.fields), origin)


def choose(total: int, *, limit: int, subset: str, seed: int) -> tuple[int, ...]:
    """Ascending indices of the rows to take.

    The random choice ranks rows by a hash of seed and index, so it never changes with a library
    version, and a larger limit contains a smaller one.

    >>> choose(5, limit=2, subset="head", seed=0)
    (0, 1)
    """
    if subset not in SUBSETS:
        raise unknown("subset", subset, SUBSETS)
    if limit < 0:
        raise UserError(f"limit must be >= 0 (0 takes all rows), got {limit}")
    size = min(limit, total) if limit else total
    if subset == "head" or size == total:
        return tuple(range(size))

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{index}".encode()).digest()

    return tuple(sorted(sorted(range(total), key=rank)[:size]))


def rows_digest(rows: Sequence[Row], fields: Mapping[str, str]) -> str:
    """Names the content of the fields that a task reads, in order."""
    return digest([[row[field] for field in sorted(fields)] for row in rows])


def find_file(folder: Path, name: str, split: str) -> Path:
    """`<folder>/<name>/<split>` with the first known suffix that exists."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such data folder")
    for suffix in SUFFIXES:
        path = folder / name / f"{split}{suffix}"
        if path.is_file():
            return path
    there = sorted(path.name for path in (folder / name).glob("*") if path.is_file())
    raise UserError(
        f"{folder / name}: no {split!r} split ({split}{' or '.join(SUFFIXES)}); "
        f"found: {', '.join(there) or 'nothing'}"
    )


def read_numbered(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, row) of each row of a file; `where` is what an error message points to."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _json_lines(path)
    elif path.suffix in (".json", ".parquet"):
        kind = path.suffix[1:]
        table = library().load_dataset(kind, data_files=str(path), split="train")
        yield from ((f"{path}: row {i}", row) for i, row in enumerate(table))
    else:
        raise UserError(f"{path}: wanted a file that ends with {' or '.join(SUFFIXES)}")


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}: line {number}", json.loads(line)
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        where = f"line {number}" if isinstance(error, json.JSONDecodeError) else f"after {number}"
        raise UserError(f"{path}: {where}: not readable ({one_line(error)})") from None


def _hub_rows(entry: Source, split: str) -> Iterator[tuple[str, Any]]:
    datasets = library()
    try:
        table = datasets.load_dataset(entry.hub, entry.config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"data set {entry.hub!r}, split {split!r}: {one_line(error)} "
            "(local files: give a data folder)"
        ) from None
    yield from ((f"{entry.hub}: row {i}", row) for i, row in enumerate(table))


def check_row(row: Any, fields: Mapping[str, str], where: str) -> Row:
    """The row, if it has every field in its kind; raises `UserError` that names the field."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: wanted a table, got {type(row).__name__}")
    for name, kind in fields.items():
        if name not in row:
            raise UserError(f"{where}: field {name!r} is missing; found: {', '.join(row)}")
        if not _KINDS[kind](row[name]):
            raise UserError(
                f"{where}: field {name!r} must be {_WORDS[kind]}, got {row[name]!r:.80}"
            )
    return row


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_label(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, str) and value != "")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(map(_is_text, value))


def _is_offsets(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_integer, value)) and value == sorted(value)


def _is_choices(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_texts(value.get("text"))
        and isinstance(value.get("label"), list)
        and len(value["label"]) == len(value["text"])
    )


_KINDS = {
    "text": _is_text,
    "integer": _is_integer,
    "label": _is_label,
    "texts": _is_texts,
    "offsets": _is_offsets,
    "choices": _is_choices,
}
_WORDS = {
    "text": "text",
    "integer": "an integer",
    "label": "a non-empty text or an integer",
    "texts": "a list of two or more texts",
    "offsets": "a list of rising integers",
    "choices": "a table of 'text' and 'label', two or more, equally long",
}
