"""Instruction records: a question and its answer, from Alpaca rows or from chat messages.

Nothing disappears silently: what is dropped or cut off is counted with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jaxablate.core.errors import UserError
from jaxablate.core.files import digest
from jaxablate.data.sources import choose

ROLES = ("system", "user", "assistant")


class Message(NamedTuple):
    """A turn of a conversation."""

    role: str
    content: str


class Record(NamedTuple):
    """One instruction with its answer; `id` is "<split>:<row>".

    `earlier` holds the turns of a conversation before the instruction. They are part of the
    prompt, the assistant's among them. `parts` are the characters of the instruction at which its
    part 2, 3, ... begins; only the format "raw" keeps them.
    """

    id: str
    instruction: str
    input: str
    output: str
    earlier: tuple[Message, ...] = ()
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Records:
    """Chosen records of a split.

    Attributes:
        rows: the records.
        dropped: counts, by reason, of rows of the file that are none.
        origin: where they come from, without a path of this machine.
        cut: conversations that go on after their last answer; what follows it is left out.
        found: usable records before a choice was made.
    """

    rows: tuple[Record, ...]
    dropped: Mapping[str, int]
    origin: str
    cut: int = 0
    found: int = 0

    def subset(self, limit: int, seed: int) -> "Records":
        """A seeded choice in the file's order, 0 takes all; a larger one contains a smaller."""
        chosen = choose(len(self.rows), limit=limit, subset="random", seed=seed)
        return replace(self, rows=tuple(self.rows[i] for i in chosen))

    @property
    def ids(self) -> list[str]:
        """The records' ids, in order."""
        return [record.id for record in self.rows]

    def to_json(self) -> dict[str, Any]:
        """What a run keeps: origin, drops by reason, counts, digests of the ids and the texts."""
        return {
            "origin": self.origin,
            "found": self.found,
            "dropped": dict(sorted(self.dropped.items())),
            "cut_after_last_answer": self.cut,
            "records": len(self.rows),
            "ids": digest(self.ids),
            "digest": digest([_content(record) for record in self.rows]),
        }


def read_rows(rows: Iterable[Any], split: str, *, where: str, origin: str) -> Records:
    """The records of one split.

    Rows have the text fields instruction, output and, if there is one, input (Alpaca); or
    `messages`, a list of turns with role and content. Texts are stripped.

    A conversation is one record: its last answer is learned, everything before it is the prompt.
    The answers before it are not: they are prompt to a prefix mask, which may let them be read
    both ways, so that each of their tokens would see itself before it is predicted.

    Raises:
        UserError: if no row has a needed field, or no row is usable. `where` begins the message.
    """
    table = list(rows)
    as_record = _conversation if _has_messages(table) else _alpaca
    if as_record is _alpaca:
        _require_fields(where, table)
    records: list[Record] = []
    dropped: Counter[str] = Counter()
    cut = 0
    for number, row in enumerate(table):
        try:
            record, rest = as_record(f"{split}:{number}", row)
        except _NoRecord as fault:
            dropped[str(fault)] += 1
            continue
        records.append(record)
        cut += rest > 0
    if not records:
        raise UserError(f"{where}: no usable record; dropped: {reasons(dropped)}")
    return Records(tuple(records), dict(dropped), origin, cut, len(records))


def reasons(dropped: Mapping[str, int]) -> str:
    """Counts as text.

    >>> reasons({"empty output": 2, "empty instruction": 1})
    'empty instruction (1), empty output (2)'
    """
    return ", ".join(f"{why} ({count})" for why, count in sorted(dropped.items())) or "nothing"


def _content(record: Record) -> list[Any]:
    """What names a record; an instruction of one part is named by its texts alone."""
    *texts, parts = record
    return [*texts, parts] if parts else texts


class _NoRecord(Exception):
    """Why a row is no record."""


def _alpaca(name: str, row: Any) -> tuple[Record, int]:
    if not isinstance(row, dict):
        raise _NoRecord("not a table")
    texts = []
    for field in ("instruction", "input", "output"):
        value = row.get(field)
        if field == "input" and value is None:
            value = ""
        if field not in row and field != "input":
            raise _NoRecord(f"no field {field!r}")
        if not isinstance(value, str):
            raise _NoRecord(f"{field} is not text")
        if field != "input" and not value.strip():
            raise _NoRecord(f"empty {field}")
        texts.append(value.strip())
    return Record(name, *texts), 0


def _conversation(name: str, row: Any) -> tuple[Record, int]:
    """The record of a row's messages, and how many turns follow the last answer."""
    turns = _turns(row)
    answers = [at for at, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        raise _NoRecord("no assistant turn")
    last = answers[-1]
    if last == 0 or turns[last - 1].role != "user":
        raise _NoRecord("the last answer follows no user turn")
    record = Record(name, turns[last - 1].content, "", turns[last].content, turns[: last - 1])
    return record, len(turns) - last - 1


def _turns(row: Any) -> tuple[Message, ...]:
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise _NoRecord("messages is not a list of turns")
    turns = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise _NoRecord(f"role {str(role)[:40]!r}")
        if not isinstance(content, str):
            raise _NoRecord(f"content of {role} is not text")
        if not content.strip():
            raise _NoRecord(f"empty content of {role}")
        turns.append(Message(role, content.strip()))
    return tuple(turns)


def _has_messages(table: Sequence[Any]) -> bool:
    fields = {name for row in table if isinstance(row, dict) for name in row}
    return "messages" in fields and not {"instruction", "output"} <= fields


def _require_fields(where: str, table: Sequence[Any]) -> None:
    found = list(dict.fromkeys(name for row in table if isinstance(row, dict) for name in row))
    for field in ("instruction", "output"):
        if field not in found:
            raise UserError(
                f"{where}: no row has a field {field!r} (or 'messages'); "
                f"found: {', '.join(map(str, found)) or 'nothing'}"
            )
