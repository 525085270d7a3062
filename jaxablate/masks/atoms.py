"""The atoms of the mask algebra.

To add one, write a registered class with its rule and, if the rule looks at positions, the closed
form of it; the contract tests then hold the two together.

>>> from jaxablate.masks import parse
>>> parse("causal & window(4096)").terms
(Causal(), Window(left=4096, right=None))
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from jaxablate.core.errors import UserError, unknown
from jaxablate.core.registry import Registry
from jaxablate.core.slots import Role, Slots
from jaxablate.masks.algebra import FAR, Atom, Mask, Nothing, SameSegment

A = TypeVar("A", bound=type[Atom])

ATOMS: Registry[type[Atom]] = Registry("mask atom")
ATOMS.register("same_segment")(SameSegment)
ATOMS.register("nothing")(Nothing)


def atom(name: str) -> Callable[[A], A]:
    """Decorator that enters an atom into the algebra under `name`.

    Arguments in the text reach the class method `parse` as strings; without one it takes none.
    """

    def enter(kind: A) -> A:
        ATOMS.register(name)(kind)
        return kind

    return enter


LARGEST = 10**9  # an argument plus a position still fits into int32
_ROLES = {role.name.lower(): role for role in Role if role is not Role.PAD}


def whole_number(name: str, text: str | int, *, least: int) -> int:
    """An argument of `name` as an integer in [least, LARGEST]; `UserError` otherwise."""
    if isinstance(text, str) and not re.fullmatch("-?[0-9]{1,12}", text):
        raise UserError(f"{name} takes a whole number >= {least}, got {text!r}")
    if not least <= int(text) <= LARGEST:
        bound = f">= {least}" if int(text) < least else f"<= {LARGEST}"
        raise UserError(f"{name} must be {bound}, got {text}")
    return int(text)


def role_named(text: str) -> Role:
    """The role of that lower-case name; padding is none, since it never sees nor is seen.

    >>> role_named("prompt")
    <Role.PROMPT: 1>
    """
    if text not in _ROLES:
        raise unknown("role", text, _ROLES)
    return _ROLES[text]


class _FactAtom(Atom):
    """An atom that does not look at positions: a run of keys is open to a query as a whole."""

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        return -FAR, np.where(self.allows(query, run), FAR, -FAR)


@atom("causal")
@dataclass(frozen=True)
class Causal(Atom):
    """`key.position <= query.position`."""

    def allows(self, query: Slots, key: Slots) -> Any:
        return key.position <= query.position

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        return -FAR, query.position + 1

    def __str__(self) -> str:
        return "causal"


@atom("window")
@dataclass(frozen=True)
class Window(Atom):
    """At most `left` keys back, self included, and at most `right` keys ahead (None: no limit).

    `causal & window(w)` is the sliding window of Mistral, `key > query - w`; `window(w, w-1)` is
    the symmetric one, `|query - key| < w`.
    """

    left: int
    right: int | None = None

    def __post_init__(self):
        whole_number("window", self.left, least=1)
        if self.right is not None:
            whole_number("window's second argument", self.right, least=0)

    def allows(self, query: Slots, key: Slots) -> Any:
        near = query.position - key.position < self.left
        return near if self.right is None else near & (key.position - query.position <= self.right)

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        end = FAR if self.right is None else query.position + (self.right + 1)
        return query.position - (self.left - 1), end

    @classmethod
    def parse(cls, left: str, right: str | None = None) -> "Window":
        ahead = None if right is None else whole_number("window's second argument", right, least=0)
        return cls(whole_number("window", left, least=1), ahead)

    def __str__(self) -> str:
        return (
            f"window({self.left})" if self.right is None else f"window({self.left}, {self.right})"
        )


@atom("chunk")
@dataclass(frozen=True)
class Chunk(Atom):
    """Query and key lie in the same block of `size` positions: 0..size-1, size..2*size-1, ..."""

    size: int

    def __post_init__(self):
        whole_number("chunk", self.size, least=1)

    def allows(self, query: Slots, key: Slots) -> Any:
        return query.position // self.size == key.position // self.size

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        start = query.position // self.size * self.size
        return start, start + self.size

    @classmethod
    def parse(cls, size: str) -> "Chunk":
        return cls(whole_number("chunk", size, least=1))

    def __str__(self) -> str:
        return f"chunk({self.size})"


@atom("sink")
@dataclass(frozen=True)
class Sink(Atom):
    """The first `count` positions of the segment stay open (attention sinks, arXiv 2309.17453)."""

    count: int

    def __post_init__(self):
        whole_number("sink", self.count, least=1)

    def allows(self, query: Slots, key: Slots) -> Any:
        return key.position < self.count

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        return -FAR, self.count

    @classmethod
    def parse(cls, count: str) -> "Sink":
        return cls(whole_number("sink", count, least=1))

    def __str__(self) -> str:
        return f"sink({self.count})"


@dataclass(frozen=True)
class _RoleAtom(_FactAtom):
    role: Role

    def __post_init__(self):
        object.__setattr__(self, "role", Role(self.role))
        if self.role is Role.PAD:
            raise unknown("role", "pad", _ROLES)

    @classmethod
    def parse(cls, role: str) -> "_RoleAtom":
        return cls(role_named(role))


@atom("within")
class Within(_RoleAtom):
    """Query and key both have this role."""

    def allows(self, query: Slots, key: Slots) -> Any:
        return (query.role == int(self.role)) & (key.role == int(self.role))

    def __str__(self) -> str:
        return f"within({self.role.name.lower()})"


@atom("to")
class To(_RoleAtom):
    """The key has this role."""

    def allows(self, query: Slots, key: Slots) -> Any:
        return key.role == int(self.role)

    def __str__(self) -> str:
        return f"to({self.role.name.lower()})"


@atom("from")
class From(_RoleAtom):
    """The query has this role."""

    def allows(self, query: Slots, key: Slots) -> Any:
        return query.role == int(self.role)

    def __str__(self) -> str:
        return f"from({self.role.name.lower()})"


@atom("same_part")
@dataclass(frozen=True)
class SamePart(_FactAtom):
    """Query and key belong to the same part of the prompt (turn, document); part 0 is none."""

    def allows(self, query: Slots, key: Slots) -> Any:
        return (query.part == key.part) & (key.part != 0)

    def __str__(self) -> str:
        return "same_part"


@atom("to_part")
@dataclass(frozen=True)
class ToPart(_FactAtom):
    """The key belongs to part `part`."""

    part: int

    def __post_init__(self):
        whole_number("to_part", self.part, least=1)

    def allows(self, query: Slots, key: Slots) -> Any:
        return key.part == self.part

    @classmethod
    def parse(cls, part: str) -> "ToPart":
        return cls(whole_number("to_part", part, least=1))

    def __str__(self) -> str:
        return f"to_part({self.part})"


@atom("from_part")
@dataclass(frozen=True)
class FromPart(_FactAtom):
    """The query belongs to part `part`."""

    part: int

    def __post_init__(self):
        whole_number("from_part", self.part, least=1)

    def allows(self, query: Slots, key: Slots) -> Any:
        return query.part == self.part

    @classmethod
    def parse(cls, part: str) -> "FromPart":
        return cls(whole_number("from_part", part, least=1))

    def __str__(self) -> str:
        return f"from_part({self.part})"


@dataclass(frozen=True)
class _Selection(Atom):
    """True at some places of the network, whatever the slots; `at` turns it into a constant."""

    ranges: tuple[tuple[int, int], ...]  # first and last index, both included

    def __post_init__(self):
        object.__setattr__(self, "ranges", _merge_ranges(self.ranges))

    @classmethod
    def of(cls, indices: Iterable[int]) -> "_Selection":
        """The selection of these indices."""
        return cls(tuple((index, index) for index in indices))

    @classmethod
    def parse(cls, first: str, *more: str) -> "_Selection":
        return cls(tuple(_parse_range(text) for text in (first, *more)))

    def allows(self, query: Slots, key: Slots) -> Any:
        raise AssertionError(f"{self} must be resolved by at(layer, head) first")

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        raise AssertionError(f"{self} must be resolved by at(layer, head) first")

    def _constant(self, index: int | None) -> Mask:
        if index is None:
            return self
        inside = any(first <= index <= last for first, last in self.ranges)
        return SameSegment() if inside else Nothing()

    def _text(self) -> str:
        return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in self.ranges)


@atom("layers")
class Layers(_Selection):
    """In these layers, counted from 0: `layers(0-11) & prefix_lm | ~layers(0-11) & causal`."""

    names_layers = True

    def at(self, layer: int | None, head: int | None) -> Mask:
        return self._constant(layer)

    def __str__(self) -> str:
        return f"layers({self._text()})"


@atom("heads")
class Heads(_Selection):
    """In these query heads, counted from 0."""

    names_heads = True

    def at(self, layer: int | None, head: int | None) -> Mask:
        return self._constant(head)

    def __str__(self) -> str:
        return f"heads({self._text()})"


def _parse_range(text: str) -> tuple[int, int]:
    found = re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise UserError(f"expected an index or a rising range such as 0-11, got {text!r}")
    return int(found[1]), int(found[2] or found[1])


def _merge_ranges(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if not 0 <= first <= last:
            raise UserError(f"expected a range with 0 <= first <= last, got {first}-{last}")
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    if not merged:
        raise UserError("expected at least one index, got none")
    return tuple(merged)
