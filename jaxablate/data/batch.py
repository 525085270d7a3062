"""What a training step reads: tokens, their slots, targets, and which targets count."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role, Slots, part_numbers


class Example(NamedTuple):
    """Token ids of a prompt and its response; the first `prompt_length` are the prompt's.

    `part_starts` are the tokens of the prompt at which its part 2, 3, ... begins, ascending.
    """

    id: str
    tokens: Int[np.ndarray, " T"]
    prompt_length: int
    part_starts: tuple[int, ...] = ()


class Batch(NamedTuple):
    """Rows of one or several examples each, right-padded; host arrays of shape [B, T].

    `targets` holds the next token of the same example, 0 where there is none. `loss_mask` is True
    where that token belongs to a response: the prompt is read, not learned.
    """

    tokens: Int[np.ndarray, "B T"]
    slots: Slots
    targets: Int[np.ndarray, "B T"]
    loss_mask: Bool[np.ndarray, "B T"]

    def take(self, rows: slice) -> "Batch":
        """Some of the rows."""
        slots = self.slots.map(lambda field: field[rows])
        return Batch(self.tokens[rows], slots, self.targets[rows], self.loss_mask[rows])


def collate(rows: Sequence[Sequence[Example]], width: int, *, pad_id: int = 0) -> Batch:
    """The batch whose row b holds the examples `rows[b]`, one after the other.

    Each example is a segment (1, 2, ...) with positions from 0; the parts of its prompt are
    numbered from 1. A row without examples is all padding.

    >>> cat = Example("a", np.array([5, 6, 7], np.int32), 2)
    >>> batch = collate([[cat, cat]], 8)
    >>> batch.slots.segment.tolist(), batch.slots.position.tolist()
    ([[1, 1, 1, 2, 2, 2, 0, 0]], [[0, 1, 2, 0, 1, 2, 0, 0]])
    >>> batch.targets.tolist(), batch.loss_mask.astype(int).tolist()
    ([[6, 7, 0, 6, 7, 0, 0, 0]], [[0, 1, 0, 0, 1, 0, 0, 0]])
    """
    tokens = np.full((len(rows), width), pad_id, np.int32)
    targets = np.zeros_like(tokens)
    loss_mask = np.zeros(tokens.shape, np.bool_)
    slots = Slots(*(np.zeros_like(tokens) for _ in Slots._fields))
    for row, examples in enumerate(rows):
        start = 0
        for segment, example in enumerate(examples, start=1):
            end, border = start + _length(example), start + example.prompt_length
            if end > width:
                raise UserError(f"row {row}: {end} tokens do not fit in a row of {width}")
            tokens[row, start:end] = example.tokens
            targets[row, start : end - 1] = example.tokens[1:]
            loss_mask[row, border - 1 : end - 1] = True
            slots.segment[row, start:end] = segment
            slots.position[row, start:end] = np.arange(end - start)
            slots.role[row, start:border] = Role.PROMPT
            slots.role[row, border:end] = Role.RESPONSE
            parts = part_numbers(example.prompt_length, example.part_starts)
            slots.part[row, start:border] = parts
            start = end
    return Batch(tokens, slots, targets, loss_mask)


def target_slots(batch: Batch) -> Int[np.ndarray, "B T"]:
    """Slot of each row that holds the target, -1 where nothing is supervised (for the leak guard).

    A row's target stands right behind it, in packed rows as well.
    """
    following = np.arange(1, batch.tokens.shape[1] + 1, dtype=np.int32)
    return np.where(batch.loss_mask, following, np.int32(-1))


def counts(batch: Batch) -> dict[str, Any]:
    """Slots, real tokens among them, supervised targets and examples of a batch."""
    return {
        "slots": batch.tokens.size,
        "tokens": int((batch.slots.segment > 0).sum()),
        "targets": int(batch.loss_mask.sum()),
        "examples": int(batch.slots.segment.max(axis=1, initial=0).sum()),
    }


def _length(example: Example) -> int:
    length = len(example.tokens)
    if not 1 <= example.prompt_length < length:
        raise UserError(
            f"example {example.id}: wanted a prompt and a response of at least one token each, "
            f"got {example.prompt_length} prompt tokens of {length}"
        )
    return length
