"""How questions lie in rows: a prompt read once with its continuations as branches, or apart.

A *block* is what must stay together in a row: a whole question (shared) or one pair (apart).
Blocks of shared questions are packed into rows best-fit-decreasing; pairs get a row each, in
rows of a few lengths. The layout depends on the questions alone, never on what was done before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from jaxablate.core.slots import Role, Slots, part_numbers


@dataclass(frozen=True)
class Question:
    """One prompt with the continuations to be scored after it, as token ids.

    `part_starts` are the tokens of the prompt at which its part 2, 3, ... begins, ascending.
    """

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    part_starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Block:
    """Continuations of one question that lie together with its prompt."""

    question: int
    choices: tuple[int, ...]
    length: int


@dataclass(frozen=True)
class RowBatch:
    """Rows of blocks, all of one length; `rows` may be fewer than the program's batch."""

    length: int
    rows: tuple[tuple[Block, ...], ...]

    @property
    def questions(self) -> tuple[int, ...]:
        """Indices of the questions that have a block here, ascending."""
        return tuple(sorted({block.question for row in self.rows for block in row}))


@dataclass
class BatchArrays:
    """What a scoring program reads. `scored[i]` is (question, choice, token) of target i."""

    tokens: np.ndarray
    slots: Slots
    index: np.ndarray
    targets: np.ndarray
    scored: list[tuple[int, int, int]] = field(default_factory=list)


def make_shared(questions: Sequence[Question], *, keep_last: bool) -> list[tuple[Block, ...]]:
    """One block a question: its prompt once, then all continuations.

    `keep_last` keeps the last token of a continuation as an input.
    """
    return [
        (Block(index, tuple(range(len(question.continuations))), _length(question, keep_last)),)
        for index, question in enumerate(questions)
    ]


def make_apart(questions: Sequence[Question], *, keep_last: bool) -> list[tuple[Block, ...]]:
    """One block a pair, grouped by question."""
    units = []
    for index, question in enumerate(questions):
        pairs = [Question(question.prompt, (c,)) for c in question.continuations]
        units.append(
            tuple(Block(index, (i,), _length(pair, keep_last)) for i, pair in enumerate(pairs))
        )
    return units


def _length(question: Question, keep_last: bool) -> int:
    dropped = 0 if keep_last else len(question.continuations)
    return len(question.prompt) + sum(map(len, question.continuations)) - dropped


def pack_rows(blocks: Sequence[Block], length: int) -> list[tuple[Block, ...]]:
    """Best-fit-decreasing packing into rows of `length` slots; every block fits."""
    rows: list[list[Block]] = []
    by_room: list[list[int]] = [[] for _ in range(length + 1)]
    rooms = 0  # bit r is set when some row has exactly r free slots
    for block in sorted(blocks, key=lambda block: -block.length):
        fitting = rooms >> block.length
        if fitting:
            room = block.length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            rooms ^= (1 << room) if not by_room[room] else 0
        else:
            room, row = length, len(rows)
            rows.append([])
        rows[row].append(block)
        left = room - block.length
        by_room[left].append(row)
        rooms |= 1 << left
    return [tuple(row) for row in rows]


def fill(
    batch: RowBatch,
    questions: Sequence[Question],
    *,
    num_rows: int,
    num_targets: int,
    keep_last: bool,
) -> BatchArrays:
    """The arrays of one batch, padded to `num_rows` rows and `num_targets` scored targets."""
    shape = (num_rows, batch.length)
    arrays = BatchArrays(
        tokens=np.zeros(shape, np.int32),
        slots=Slots(*(np.zeros(shape, np.int32) for _ in Slots._fields)),
        index=np.zeros(num_targets, np.int32),
        targets=np.zeros(num_targets, np.int32),
    )
    for row, blocks in enumerate(batch.rows):
        start = 0
        for segment, block in enumerate(blocks, start=1):
            _put_block(arrays, row, start, segment, block, questions[block.question], keep_last)
            start += block.length
    return arrays


def _put_block(
    arrays: BatchArrays,
    row: int,
    start: int,
    segment: int,
    block: Block,
    question: Question,
    keep_last: bool,
) -> None:
    size = len(question.prompt)
    _put_run(arrays, row, start, question.prompt, (0, segment, Role.PROMPT, 1, 0))
    arrays.slots.part[row, start : start + size] = part_numbers(size, question.part_starts)
    last_of_prompt = row * arrays.tokens.shape[1] + start + size - 1
    at = start + size
    for branch, choice in enumerate(block.choices, start=1):
        continuation = question.continuations[choice]
        run = continuation if keep_last else continuation[:-1]
        _put_run(arrays, row, at, run, (size, segment, Role.RESPONSE, 0, branch))
        first = row * arrays.tokens.shape[1] + at
        done = len(arrays.scored)
        span = slice(done, done + len(continuation))
        arrays.index[span] = [last_of_prompt, *range(first, first + len(continuation) - 1)]
        arrays.targets[span] = continuation
        arrays.scored += [(block.question, choice, token) for token in range(len(continuation))]
        at += len(run)


def _put_run(
    arrays: BatchArrays,
    row: int,
    start: int,
    tokens: Sequence[int],
    facts: tuple[int, int, int, int, int],
) -> None:
    """Write tokens and their slot facts (first position, segment, role, part, branch)."""
    span = slice(start, start + len(tokens))
    arrays.tokens[row, span] = tokens
    first, segment, role, part, branch = facts
    arrays.slots.position[row, span] = np.arange(first, first + len(tokens))
    for name, value in (("segment", segment), ("role", role), ("part", part), ("branch", branch)):
        getattr(arrays.slots, name)[row, span] = value
