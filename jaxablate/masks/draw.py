"""Drawings of masks as text, and slots from a compact text such as "P4 R3".

>>> print(draw("prefix_lm", "P2 R1; P1 R1"))
  PPRPR
P ##...
P ##...
R ###..
P ...#.
R ...##
"""

import re

import numpy as np
from jaxtyping import Bool

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role, Slots
from jaxablate.masks.algebra import Mask
from jaxablate.masks.parse import parse

_LETTERS = {"P": Role.PROMPT, "R": Role.RESPONSE, "L": Role.LATENT, "G": Role.GIST, ".": Role.PAD}
_LETTER_OF = {int(role): letter for letter, role in _LETTERS.items()}
_PIECE = re.compile(r"(?P<letter>[PRLG.])(?P<count>[0-9]{1,4})?(?:/(?P<part>[0-9]{1,4}))?")
_MAX_SLOTS = 512


def draw(
    mask: Mask | str, layout: Slots | str, *, layer: int = 0, head: int = 0, row: int = 0
) -> str:
    """The mask on one row of slots: queries are lines, keys are columns, `#` is open."""
    slots, table = open_cells(mask, layout, layer=layer, head=head, row=row)
    letters = role_letters(slots)
    lines = ("".join("#" if cell else "." for cell in line) for line in table)
    return "\n".join(
        [f"  {letters}", *(f"{a} {line}" for a, line in zip(letters, lines, strict=True))]
    )


def open_cells(
    mask: Mask | str, layout: Slots | str, *, layer: int = 0, head: int = 0, row: int = 0
) -> tuple[Slots, Bool[np.ndarray, "T T"]]:
    """One row of slots and the table of it, [query, key]: True where the mask is open."""
    mask = parse(mask) if isinstance(mask, str) else mask
    slots = read_layout(layout) if isinstance(layout, str) else layout
    slots = slots.map(lambda field: np.asarray(field)[row : row + 1])
    return slots, mask.materialise(slots, slots, layer=layer, head=head)[0]


def role_letters(slots: Slots) -> str:
    """A letter for each slot of the first row, as in a layout's text."""
    return "".join(_LETTER_OF[int(role)] for role in slots.role[0])


def read_layout(text: str) -> Slots:
    """One row of slots from text.

    Letters are roles (P prompt, R response, L latent, G gist, `.` padding), a number repeats, `/2`
    puts into part 2, `;` begins the next packed example and `{R2|R3}` holds branches that share
    what stands before them. A prompt without parts is one part, number 1.

    >>> read_layout("P2 {R1|R2}").position.tolist(), read_layout("P2 {R1|R2}").branch.tolist()
    ([[0, 1, 2, 2, 3]], [[0, 0, 1, 2, 2]])
    """
    slots: list[tuple[int, int, int, int, int]] = []
    for segment, example in enumerate(text.split(";"), start=1):
        slots += _read_example("".join(example.split()), segment)
    if not 0 < len(slots) <= _MAX_SLOTS:
        raise UserError(
            f"a layout has 1 to {_MAX_SLOTS} slots, got {len(slots)} from {text[:60]!r}"
        )
    return Slots(*(np.array([column], np.int32) for column in zip(*slots, strict=True)))


def _read_example(text: str, segment: int) -> list[tuple[int, int, int, int, int]]:
    trunk, brace, rest = text.partition("{")
    slots = _read_pieces(trunk, segment, 0, 0)
    if not brace:
        return slots
    if not rest.endswith("}"):
        raise UserError(
            f"a layout's branches end with '}}' at the end of the example, got {text!r}"
        )
    start = 1 + max((slot[0] for slot in slots if slot[1]), default=-1)
    for branch, piece in enumerate(rest[:-1].split("|"), start=1):
        slots += _read_pieces(piece, segment, branch, start)
    return slots


def _read_pieces(
    text: str, segment: int, branch: int, position: int
) -> list[tuple[int, int, int, int, int]]:
    slots, at = [], 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if not piece:
            raise UserError(
                f"a layout is made of P, R, L, G and '.', as in 'P4 R3', got {text[at:]!r}"
            )
        at = piece.end()
        role, count = _LETTERS[piece["letter"]], int(piece["count"] or 1)
        part = int(piece["part"] or role == Role.PROMPT)
        for _ in range(count):
            if role is Role.PAD:
                slots.append((0, 0, 0, 0, 0))
            else:
                slots.append((position, segment, int(role), part, branch))
                position += 1
    return slots
