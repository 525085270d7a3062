"""Dose and response: one mask in the first k layers (or heads), another one in the rest."""

import re
from dataclasses import dataclass
from typing import Literal

from jaxablate.core.errors import UserError
from jaxablate.masks.parse import parse

AXES = ("layers", "heads")


@dataclass(frozen=True, kw_only=True)
class Dose:
    """How much of a model is read under one mask in place of another.

    Attributes:
        axis: what is counted, from 0 upwards: "layers", or "heads" (query heads of every layer).
        mask: in the first k of them.
        other: in the others.
        counts: each k, rising; empty is every one from none to all.
    """

    axis: Literal["layers", "heads"] = "layers"
    mask: str = "prefix_lm"
    other: str = "causal"
    counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.mask, self.other):
            parse(text)
        if list(self.counts) != sorted({count for count in self.counts if count >= 0}):
            raise UserError(f"dose.counts rise and are >= 0, got {list(self.counts)}")

    def masks(self, total: int | None = None) -> tuple[str, ...]:
        """One mask for each count, of a model that has `total` layers or heads.

        >>> Dose(counts=(0, 3)).masks()
        ('causal', 'layers(0-2) & prefix_lm | ~layers(0-2) & causal')

        Raises:
            UserError: for a count above `total`.
        """
        most = max(self.counts, default=0)
        if total is not None and most > total:
            raise UserError(f"the model has {total} {self.axis}, a dose counts {most}")
        return tuple(self._mask(count) for count in self.levels(total))

    def levels(self, total: int | None) -> tuple[int, ...]:
        """The counts; those of "all" need to know how many there are."""
        if self.counts:
            return self.counts
        if total is None:
            raise UserError(f"a dose of all {self.axis} needs to know how many there are")
        return tuple(range(total + 1))

    def _mask(self, count: int) -> str:
        if count == 0:
            return self.other
        chosen = f"{self.axis}({f'0-{count - 1}' if count > 1 else '0'})"
        return f"{chosen} & {_grouped(self.mask)} | ~{chosen} & {_grouped(self.other)}"


def _grouped(mask: str) -> str:
    """A mask in parentheses unless it is one word."""
    return mask if re.fullmatch(r"\w+(\([^()]*\))?", mask) else f"({mask})"
