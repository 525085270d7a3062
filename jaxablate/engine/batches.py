"""Which questions go into which program call: few row lengths, whole questions a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxablate.core.files import digest
from jaxablate.engine.layout import (
    Block,
    Question,
    RowBatch,
    make_apart,
    make_shared,
    pack_rows,
)

Row = tuple[Block, ...]


@dataclass(frozen=True)
class ScoreBatch:
    """Work of one program call: whole questions, by index into the planned list."""

    rows: RowBatch
    num_rows: int
    num_targets: int

    @property
    def questions(self) -> tuple[int, ...]:
        """Indices of the questions answered by this batch, ascending."""
        return self.rows.questions

    @property
    def digest(self) -> str:
        """Names the batch: equal plans give equal digests."""
        blocks = [[(b.question, b.choices) for b in row] for row in self.rows.rows]
        return digest([self.rows.length, self.num_rows, self.num_targets, blocks])


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Slots of a packed row, slots of a batch, and rows of a batch when given (0: by slots)."""

    row_length: int
    batch_slots: int
    rows_per_batch: int = 0

    def length_of(self, block: int, *, shared: bool) -> int:
        """The row length for a block: few different ones, so that few programs are compiled."""
        if shared:
            size = self.row_length
            while size < block:
                size *= 2
            return size
        return round_up(block, 64 if block <= 512 else 256)

    def num_rows(self, length: int, groups: Sequence[Sequence[Row]]) -> int:
        """Rows of a batch: no more than there are, and room for the largest group."""
        wanted = self.rows_per_batch or max(1, self.batch_slots // length)
        there_are = round_up(sum(map(len, groups)), 8)
        return max(min(wanted, there_are), *map(len, groups), 1)


def plan_batches(
    questions: Sequence[Question], sizes: BatchSizes, *, shared: bool, keep_last: bool
) -> list[ScoreBatch]:
    """Batches that answer all questions; a function of its arguments alone."""
    units = (make_shared if shared else make_apart)(questions, keep_last=keep_last)
    by_length: dict[int, list[Row]] = {}
    for unit in units:
        longest = max(block.length for block in unit)
        by_length.setdefault(sizes.length_of(longest, shared=shared), []).append(unit)
    batches = []
    for length in sorted(by_length, reverse=True):
        groups = _row_groups(by_length[length], length, shared=shared)
        batches += _batches(questions, length, groups, sizes.num_rows(length, groups))
    return batches


def _row_groups(units: Sequence[Row], length: int, *, shared: bool) -> list[list[Row]]:
    """Rows that must stay in one batch: packed rows of many questions, or a question's pairs."""
    if shared:
        return [[row] for row in pack_rows([block for (block,) in units], length)]
    return [[(block,) for block in unit] for unit in units]


def _batches(
    questions: Sequence[Question], length: int, groups: Sequence[Sequence[Row]], num_rows: int
) -> list[ScoreBatch]:
    filled: list[list[Row]] = [[]]
    for group in groups:
        if len(filled[-1]) + len(group) > num_rows:
            filled.append([])
        filled[-1] += group
    capacity = round_up(max(_num_targets(rows, questions) for rows in filled), 256)
    return [ScoreBatch(RowBatch(length, tuple(rows)), num_rows, capacity) for rows in filled]


def _num_targets(rows: Sequence[Row], questions: Sequence[Question]) -> int:
    return sum(
        len(questions[block.question].continuations[choice])
        for row in rows
        for block in row
        for choice in block.choices
    )


def round_up(value: int, step: int) -> int:
    """The next multiple of `step`.

    >>> round_up(65, 64)
    128
    """
    return -(-value // step) * step
