"""Instruction data for supervised finetuning: records, their prompt format, their tokens.

Nothing disappears silently: what is dropped or truncated is counted with its reason.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.core.files import digest
from jaxablate.data.batch import Example
from jaxablate.data.sources import SUFFIXES, choose, find_file, read_numbered
from jaxablate.data.tokenizer import Tokenizer

# The share of "train" that is held out where a data set has no other split.
HELD_OUT_SHARE = 0.02


class Record(NamedTuple):
    """One instruction with its answer; `id` is "<split>:<row>"."""

    id: str
    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class Records:
    """Chosen records of a split. `dropped` counts, by reason, rows of the file that are none."""

    rows: tuple[Record, ...]
    dropped: Mapping[str, int]
    origin: str

    def subset(self, limit: int, seed: int) -> "Records":
        """A seeded choice in the file's order, 0 takes all; a larger one contains a smaller."""
        chosen = choose(len(self.rows), limit=limit, subset="random", seed=seed)
        return Records(tuple(self.rows[i] for i in chosen), self.dropped, self.origin)

    def to_json(self) -> dict[str, Any]:
        """What a run folder keeps: origin, drops by reason, ids, and a digest of the texts."""
        return {
            "origin": self.origin,
            "dropped": dict(self.dropped),
            "ids": [record.id for record in self.rows],
            "digest": digest([list(record) for record in self.rows]),
        }


def load_splits(
    folder: str | Path, name: str, *, seed: int, train_limit: int = 0, eval_limit: int = 0
) -> tuple[Records, Records]:
    """Training and evaluation records of `<folder>/<name>/`, Alpaca schema.

    Evaluation takes the split "validation", else "test", else a seeded 2 % of "train", which
    training then lacks. Limits of 0 take all.
    """
    folder = Path(folder)
    train = read_records(find_file(folder, name, "train"), "train")
    other = next((s for s in ("validation", "test") if _has_split(folder, name, s)), None)
    if other is not None:
        held_out = read_records(find_file(folder, name, other), other)
    else:
        train, held_out = hold_out(train, seed=seed)
    return train.subset(train_limit, seed), held_out.subset(eval_limit, seed)


def hold_out(records: Records, *, seed: int) -> tuple[Records, Records]:
    """`records` without a seeded 2 %, and those 2 % (rounded up)."""
    total = len(records.rows)
    if total < 2:
        raise UserError(f"{records.origin}: {total} records cannot be split into train and eval")
    size = math.ceil(total * HELD_OUT_SHARE)
    taken = set(choose(total, limit=size, subset="random", seed=seed))
    kept = tuple(record for i, record in enumerate(records.rows) if i not in taken)
    out = tuple(record for i, record in enumerate(records.rows) if i in taken)
    origin = f"{records.origin} ({HELD_OUT_SHARE:.0%} held out, seed {seed})"
    return Records(kept, records.dropped, origin), Records(out, {}, origin)


def read_records(path: Path, split: str) -> Records:
    """The records of one file: text fields instruction, output and, if there is one, input.

    Raises:
        UserError: if no row has a needed field, or no row is usable.
    """
    table = [row for _, row in read_numbered(path)]
    _require_fields(path, table)
    records: list[Record] = []
    dropped: Counter[str] = Counter()
    for number, row in enumerate(table):
        fault = _fault(row)
        if fault is not None:
            dropped[fault] += 1
            continue
        texts = (row["instruction"], row.get("input") or "", row["output"])
        records.append(Record(f"{split}:{number}", *(text.strip() for text in texts)))
    if not records:
        raise UserError(f"{path}: no usable record; dropped: {_table(dropped)}")
    return Records(tuple(records), dict(dropped), path.name)


def plain_headings(record: Record) -> str:
    r"""The prompt under plain headings; the response follows without a space.

    >>> plain_headings(Record("0", "Add.", "", "5"))
    '### Instruction:\nAdd.\n\n### Response:\n'
    """
    middle = f"### Input:\n{record.input}\n\n" if record.input else ""
    return f"### Instruction:\n{record.instruction}\n\n{middle}### Response:\n"


def plain(record: Record) -> tuple[str, str]:
    """Prompt under plain headings, and the response."""
    return plain_headings(record), record.output


@dataclass(frozen=True)
class Encoded:
    """Examples, and what happened to the others."""

    examples: tuple[Example, ...]
    truncated: tuple[str, ...]
    dropped: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Counts for a run folder, and the ids of truncated examples."""
        lengths = [len(example.tokens) for example in self.examples]
        prompts = [example.prompt_length for example in self.examples]
        return {
            "examples": len(lengths),
            "tokens": sum(lengths),
            "supervised": sum(lengths) - sum(prompts),
            "truncated": list(self.truncated),
            "dropped": dict(self.dropped),
        }


def encode(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    render: Callable[[Record], tuple[str, str]] = plain,
    add_bos: bool = False,
) -> Encoded:
    """Prompt and response, as `render` gives them, tokenised apart and joined; EOS is added by id.

    An example is cut at `max_length` from the right (its EOS goes with it); it is dropped if
    nothing of the response is left.
    """
    end = _eos_id(tokenizer)
    texts = [render(record) for record in records]
    prompts = tokenizer.encode_batch([before for before, _ in texts], add_bos=add_bos)
    responses = tokenizer.encode_batch([after for _, after in texts])
    examples, truncated = [], []
    dropped: Counter[str] = Counter()
    for record, before, after in zip(records, prompts, responses, strict=True):
        ids = [*before, *after, end]
        if len(before) >= max_length:
            dropped[f"prompt fills all {max_length} tokens"] += 1
            continue
        if len(ids) > max_length:
            truncated.append(record.id)
        tokens = np.asarray(ids[:max_length], np.int32)
        examples.append(Example(record.id, tokens, len(before)))
    if not examples:
        raise UserError(f"no example is left of {len(records)} records: {_table(dropped)}")
    return Encoded(tuple(examples), tuple(truncated), dict(dropped))


def _eos_id(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_id is not None:
        return tokenizer.eos_id
    if not tokenizer.eos_ids:
        raise UserError(f"{tokenizer.folder}: finetuning needs an EOS token, there is none")
    return tokenizer.eos_ids[0]


def _require_fields(path: Path, table: Sequence[Any]) -> None:
    tables = [row for row in table if isinstance(row, dict)]
    found = list(dict.fromkeys(name for row in tables for name in row))
    for field in ("instruction", "output"):
        if field not in found:
            raise UserError(
                f"{path}: no row has a field {field!r}; found: {', '.join(found) or 'nothing'}"
            )


def _fault(row: Any) -> str | None:
    """Why a row is no record, or None."""
    if not isinstance(row, dict):
        return "not a table"
    for field in ("instruction", "input", "output"):
        value = row.get(field)
        if field == "input" and value is None:
            continue
        if field not in row:
            return f"no field {field!r}"
        if not isinstance(value, str):
            return f"{field} is not text"
        if field != "input" and not value.strip():
            return f"empty {field}"
    return None


def _has_split(folder: Path, name: str, split: str) -> bool:
    return any((folder / name / f"{split}{suffix}").is_file() for suffix in SUFFIXES)


def _table(dropped: Mapping[str, int]) -> str:
    entries: Iterable[tuple[str, int]] = sorted(dropped.items())
    return ", ".join(f"{reason} ({count})" for reason, count in entries) or "nothing"
