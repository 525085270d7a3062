"""The leak guard in front of scoring: may any answer see itself, by the mask alone?

A mask is a rule over pairs of slot facts, so the verdict depends on a pair's lengths and on where
the parts of its prompt begin only; every distinct shape is decided once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxablate.core.slots import Slots, rows
from jaxablate.engine.layout import Question
from jaxablate.masks.algebra import Mask
from jaxablate.masks.leak import LeakError, LeakReport, leak_report

# Slots decided in one call; bounds host memory.
SLOTS_AT_ONCE = 2**20


class LeakVerdict(NamedTuple):
    """Whether answers can see themselves, with a sentence that shows the path."""

    leaky: bool
    sentence: str
    report: LeakReport | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        path = self.report.to_json() if self.report else None
        return {"leaky": self.leaky, "sentence": self.sentence, "path": path}


class PairShape(NamedTuple):
    """All that a mask may know of a prompt with one continuation."""

    prompt: int
    continuation: int
    part_starts: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of both."""
        return self.prompt + self.continuation


def pair_shapes(questions: Sequence[Question]) -> list[PairShape]:
    """The distinct shapes, in ascending order."""
    pairs = {(len(q.prompt), len(c), q.part_starts) for q in questions for c in q.continuations}
    return [PairShape(*pair) for pair in sorted(pairs)]


def pair_slots(shapes: Sequence[PairShape]) -> Slots:
    """A right-padded row for each shape: the prompt, then the whole continuation."""
    lengths = [shape.length for shape in shapes]
    starts = [shape.part_starts for shape in shapes]
    return rows(lengths, max(lengths), [shape.prompt for shape in shapes], starts)


def check_pairs(
    masks: Sequence[Mask], questions: Sequence[Question], *, num_heads: int, allow_leaky: bool
) -> LeakVerdict:
    """The verdict for all pairs; `masks` has one entry a layer, bottom first.

    Raises:
        LeakError: when an answer can see itself and `allow_leaky` is off.
    """
    shapes = pair_shapes(questions)
    size = max(1, SLOTS_AT_ONCE // max(shape.length for shape in shapes))
    for start in range(0, len(shapes), size):
        part = shapes[start : start + size]
        report = leak_report(masks, pair_slots(part), _targets(part), num_heads=num_heads)
        if report.leaks:
            if not allow_leaky:
                raise LeakError(report)
            return LeakVerdict(True, report.sentence(), report)
    sentence = f"no answer can see itself ({len(shapes)} shapes, {len(masks)} layers)"
    return LeakVerdict(False, sentence, None)


def _targets(shapes: Sequence[PairShape]) -> np.ndarray:
    """Slot whose token each position predicts, where scored: the next one; -1 elsewhere."""
    slot = np.arange(max(shape.length for shape in shapes), dtype=np.int32)[None]
    prompt = np.array([[shape.prompt] for shape in shapes])
    total = np.array([[shape.length] for shape in shapes])
    scored = (slot >= prompt - 1) & (slot < total - 1)
    return np.where(scored, slot + 1, -1).astype(np.int32)
