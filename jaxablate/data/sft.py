"""Instruction records as examples for supervised finetuning: their prompt format, their tokens.

Nothing disappears silently: what is dropped or truncated is counted with its reason.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.data.batch import Example
from jaxablate.data.records import Record, reasons
from jaxablate.data.tokenizer import Tokenizer, first_token_past


class Unfit(UserError):
    """A record that a format cannot render. `encode` drops it and counts the reason."""


def plain_headings(record: Record) -> str:
    r"""The prompt under plain headings; the response follows without a space.

    >>> plain_headings(Record("0", "Add.", "", "5"))
    '### Instruction:\nAdd.\n\n### Response:\n'
    """
    middle = f"### Input:\n{record.input}\n\n" if record.input else ""
    return f"### Instruction:\n{record.instruction}\n\n{middle}### Response:\n"


def plain(record: Record) -> tuple[str, str]:
    """Prompt under plain headings, and the response; one turn is all that they can say."""
    if record.earlier:
        raise UserError(
            f"record {record.id} is a conversation of several turns, which plain headings cannot "
            "say; use format 'chat'"
        )
    return plain_headings(record), record.output


def raw(record: Record) -> tuple[str, str]:
    """Instruction and output as they are, with nothing around or between them."""
    if record.earlier or record.input:
        raise UserError(
            f"record {record.id} has an input or earlier turns, for which format 'raw' has no "
            "place; use format 'plain' or 'chat'"
        )
    return record.instruction, record.output


@dataclass(frozen=True)
class Encoded:
    """Examples, and what happened to the others."""

    examples: tuple[Example, ...]
    truncated: tuple[str, ...]
    dropped: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """What a run keeps: counts, and lengths in tokens (least, quantiles, greatest)."""
        lengths = [len(example.tokens) for example in self.examples]
        prompts = [example.prompt_length for example in self.examples]
        return {
            "examples": len(lengths),
            "tokens": sum(lengths),
            "supervised": sum(lengths) - sum(prompts),
            "truncated": len(self.truncated),
            "dropped": dict(sorted(self.dropped.items())),
            "lengths": _spread(lengths),
            "prompt_lengths": _spread(prompts),
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
    nothing of the response is left, or if `render` raises `Unfit`.
    """
    end = _eos_id(tokenizer)
    dropped: Counter[str] = Counter()
    names, texts = _rendered(records, render, dropped)
    prompts = tokenizer.encode_batch([before for before, _ in texts], add_bos=add_bos)
    responses = tokenizer.encode_batch([after for _, after in texts])
    examples, truncated = [], []
    parts = _part_starts(records, tokenizer) if render is raw else {}
    for name, before, after in zip(names, prompts, responses, strict=True):
        ids = [*before, *after, end]
        if len(before) >= max_length:
            dropped[f"prompt fills all {max_length} tokens"] += 1
            continue
        if len(ids) > max_length:
            truncated.append(name)
        tokens = np.asarray(ids[:max_length], np.int32)
        examples.append(Example(name, tokens, len(before), _shifted(parts.get(name, ()), add_bos)))
    if not examples:
        raise UserError(f"no example is left of {len(records)} records: {reasons(dropped)}")
    return Encoded(tuple(examples), tuple(truncated), dict(dropped))


def _rendered(
    records: Sequence[Record],
    render: Callable[[Record], tuple[str, str]],
    dropped: Counter[str],
) -> tuple[list[str], list[tuple[str, str]]]:
    names, texts = [], []
    for record in records:
        try:
            pair = render(record)
        except Unfit as fault:
            dropped[str(fault)] += 1
            continue
        names.append(record.id)
        texts.append(pair)
    return names, texts


def _part_starts(records: Sequence[Record], tokenizer: Tokenizer) -> dict[str, tuple[int, ...]]:
    """By id, the tokens at which the further parts of an instruction begin; no BOS is counted."""
    several = [record for record in records if record.parts]
    encoded = tokenizer.encode_offsets_batch([record.instruction for record in several])
    return {
        record.id: tuple(first_token_past(offsets, part) for part in record.parts)
        for record, (_, offsets) in zip(several, encoded, strict=True)
    }


def _shifted(starts: tuple[int, ...], add_bos: bool) -> tuple[int, ...]:
    return tuple(start + add_bos for start in starts)


def _eos_id(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_id is not None:
        return tokenizer.eos_id
    if not tokenizer.eos_ids:
        raise UserError(f"{tokenizer.folder}: finetuning needs an EOS token, there is none")
    return tokenizer.eos_ids[0]


def _spread(values: Sequence[int]) -> dict[str, int]:
    ranked = sorted(values)
    places = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: ranked[round(share * (len(ranked) - 1))] for name, share in places.items()}
