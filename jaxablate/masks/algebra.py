"""The mask algebra: a rule over a pair of slots, built from atoms with `&`, `|` and `~`.

A mask answers one question: may this query slot attend to that key slot? It knows the facts of the
two slots (`jaxablate.core.slots.Slots`) and, through `layers(...)` and `heads(...)`, where in the
network it is asked. It never knows array indices, token values or whether the call is a prefill, so
that one mask serves training, packing, prefill, chunked prefill, decode and scoring alike.

**The rule above all rules.** Whatever a mask says, a query sees a key only if

- both are real: segment 0 is padding, which neither sees nor is seen;
- both lie in the same segment, the same packed example;
- their branches are compatible: the key or the query is in the trunk (branch 0), or both are in the
  same branch.

`materialise` and the lowering apply this themselves, after the mask's own rule, so `~` cannot open
it. `same_segment` is the mask that adds nothing to it, `nothing` its opposite. Whether a trunk
query sees the keys of a branch is left to the mask: `causal` never lets it, `same_segment` does.
Within trunk plus one branch every mask is therefore exactly what it is on that example alone.
"""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any, TypeVar

from jaxtyping import Bool

from jaxablate.core.slots import Slots

V = TypeVar("V")


class Mask(abc.ABC):
    """A rule over (query slot, key slot); frozen, hashable, True = may attend."""

    def materialise(
        self, queries: Slots, keys: Slots, *, layer: int = 0, head: int = 0
    ) -> Bool[Any, "B T S"]:
        """The definition: the boolean array over all pairs, in the array library of the slots."""
        query = queries.map(lambda field: field[:, :, None])  # B T 1
        key = keys.map(lambda field: field[:, None, :])  # B 1 S
        rule = self.at(layer, head).fold(lambda atom: atom.allows(query, key))
        return rule & may_ever_see(query, key)

    @abc.abstractmethod
    def at(self, layer: int | None, head: int | None) -> "Mask":
        """The mask of one layer and head, without `layers()`, `heads()` and idle constants.

        None leaves that choice open: `at(3, None)` still has its `heads()`.
        """

    @abc.abstractmethod
    def fold(self, leaf: Callable[["Atom"], V]) -> V:
        """`leaf` of every atom, combined by the values' own `&`, `|` and `~`."""

    @abc.abstractmethod
    def atoms(self) -> Iterator["Atom"]:
        """Every atom that occurs, in the order of writing."""

    @property
    def selects_layers(self) -> bool:
        """Whether the rule may differ between layers."""
        return any(atom.names_layers for atom in self.atoms())

    @property
    def selects_heads(self) -> bool:
        """Whether the rule may differ between heads."""
        return any(atom.names_heads for atom in self.atoms())

    def __and__(self, other: "Mask") -> "Mask":
        return And((self, other)) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: "Mask") -> "Mask":
        return Or((self, other)) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> "Mask":
        return Not(self)


def may_ever_see(query: Slots, key: Slots) -> Any:
    """The rule above all rules: same real segment, compatible branches."""
    same_example = (query.segment == key.segment) & (query.segment != 0)
    return same_example & ((key.branch == 0) | (query.branch == 0) | (query.branch == key.branch))


class Atom(Mask):
    """A mask without parts. `allows` defines it, `reach` is its closed form for the lowering."""

    names_layers = False
    names_heads = False

    @abc.abstractmethod
    def allows(self, query: Slots, key: Slots) -> Any:
        """The rule on facts that broadcast against each other; operators only, no array library."""

    @abc.abstractmethod
    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        """Key positions `[low, high)` open to `query` in a run of keys.

        A run is a stretch of neighbouring keys with equal segment, role, part and branch and with
        consecutive positions; `run` holds the facts of its first key. All are numpy arrays.
        """

    def at(self, layer: int | None, head: int | None) -> Mask:
        return self

    def fold(self, leaf: Callable[["Atom"], V]) -> V:
        return leaf(self)

    def atoms(self) -> Iterator["Atom"]:
        yield self


FAR = 2**30  # beyond every position; sums of two still fit into int32


@dataclass(frozen=True)
class SameSegment(Atom):
    """Every key of the query's own example: the top of the algebra."""

    def allows(self, query: Slots, key: Slots) -> Any:
        return query.segment == query.segment

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        return -FAR, FAR

    def __str__(self) -> str:
        return "same_segment"


@dataclass(frozen=True)
class Nothing(Atom):
    """No key at all: the bottom of the algebra."""

    def allows(self, query: Slots, key: Slots) -> Any:
        return query.segment != query.segment

    def reach(self, query: Slots, run: Slots) -> tuple[Any, Any]:
        return 0, 0

    def __str__(self) -> str:
        return "nothing"


@dataclass(frozen=True)
class Not(Mask):
    """Where `term` is closed (inside the rule above all rules)."""

    term: Mask

    def at(self, layer: int | None, head: int | None) -> Mask:
        term = self.term.at(layer, head)
        if isinstance(term, Not):
            return term.term
        opposite: dict[Mask, Mask] = {SameSegment(): Nothing(), Nothing(): SameSegment()}
        return opposite.get(term, Not(term))

    def fold(self, leaf: Callable[[Atom], V]) -> V:
        value: Any = self.term.fold(leaf)
        return ~value

    def atoms(self) -> Iterator[Atom]:
        return self.term.atoms()

    def __str__(self) -> str:
        return f"~({self.term})" if isinstance(self.term, _Chain) else f"~{self.term}"


@dataclass(frozen=True)
class _Chain(Mask):
    """Two or more terms joined by one operator; nested chains of the same kind are flattened."""

    terms: tuple[Mask, ...]

    def __post_init__(self):
        nested = ((term.terms if type(term) is type(self) else (term,)) for term in self.terms)
        object.__setattr__(self, "terms", tuple(one for group in nested for one in group))
        assert len(self.terms) >= 2, self.terms

    def atoms(self) -> Iterator[Atom]:
        return (atom for term in self.terms for atom in term.atoms())

    def _resolve(self, layer: int | None, head: int | None, idle: Mask, deciding: Mask) -> Mask:
        flat = (_flatten(term.at(layer, head), type(self)) for term in self.terms)
        terms = dict.fromkeys(term for group in flat for term in group if term != idle)
        if deciding in terms:
            return deciding
        return type(self)(tuple(terms)) if len(terms) > 1 else next(iter(terms), idle)


class And(_Chain):
    """Where every term is open."""

    def at(self, layer: int | None, head: int | None) -> Mask:
        return self._resolve(layer, head, idle=SameSegment(), deciding=Nothing())

    def fold(self, leaf: Callable[[Atom], V]) -> V:
        return reduce(and_, (term.fold(leaf) for term in self.terms))

    def __str__(self) -> str:
        return " & ".join(f"({term})" if isinstance(term, Or) else str(term) for term in self.terms)


class Or(_Chain):
    """Where at least one term is open."""

    def at(self, layer: int | None, head: int | None) -> Mask:
        return self._resolve(layer, head, idle=Nothing(), deciding=SameSegment())

    def fold(self, leaf: Callable[[Atom], V]) -> V:
        return reduce(or_, (term.fold(leaf) for term in self.terms))

    def __str__(self) -> str:
        return " | ".join(
            f"({term})" if isinstance(term, And) else str(term) for term in self.terms
        )


def _flatten(mask: Mask, kind: type[_Chain]) -> tuple[Mask, ...]:
    return mask.terms if type(mask) is kind else (mask,)
