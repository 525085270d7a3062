"""Random masks and slot layouts, drawn by hypothesis."""

import numpy as np
from hypothesis import strategies as st

from jaxablate.core.slots import Role, Slots
from jaxablate.masks.algebra import And, Mask, Not, Nothing, Or, SameSegment
from jaxablate.masks.atoms import (
    Causal,
    Chunk,
    From,
    FromPart,
    Heads,
    Layers,
    SamePart,
    Sink,
    To,
    ToPart,
    Window,
    Within,
)

roles = st.sampled_from([Role.PROMPT, Role.RESPONSE, Role.LATENT, Role.GIST])
small = st.integers(1, 6)
constants = st.sampled_from([SameSegment(), Nothing()])
slot_atoms = st.one_of(
    constants,
    st.builds(Causal),
    st.builds(Window, small, st.none() | st.integers(0, 5)),
    st.builds(Chunk, small),
    st.builds(Sink, small),
    st.builds(Within, roles),
    st.builds(To, roles),
    st.builds(From, roles),
    st.builds(SamePart),
    st.builds(ToPart, st.integers(1, 3)),
    st.builds(FromPart, st.integers(1, 3)),
)
selections = st.lists(st.integers(0, 5), min_size=1).map(
    lambda indices: tuple((index, index) for index in indices)
)
place_atoms = st.builds(Layers, selections) | st.builds(Heads, selections)


def _combined(atoms: st.SearchStrategy[Mask]) -> st.SearchStrategy[Mask]:
    return st.recursive(
        atoms,
        lambda masks: st.one_of(
            st.builds(Not, masks),
            st.builds(And, st.lists(masks, min_size=2, max_size=3).map(tuple)),
            st.builds(Or, st.lists(masks, min_size=2, max_size=3).map(tuple)),
        ),
        max_leaves=6,
    )


masks = _combined(slot_atoms)
masks_by_place = _combined(slot_atoms | place_atoms)


@st.composite
def examples(draw, segment: int) -> list[tuple[int, ...]]:
    """One packed example: latents, a prompt with parts, gists, responses or branches of them."""
    parts = draw(st.lists(st.integers(0, 3), max_size=3))
    roles_parts = [(Role.LATENT, 0, draw(st.integers(0, 2)))]
    roles_parts += [(Role.PROMPT, part, draw(st.integers(0, 3))) for part in parts]
    roles_parts += [(Role.GIST, 0, draw(st.integers(0, 2)))]
    facts = [(int(role), part) for role, part, count in roles_parts for _ in range(count)]
    slots = [(i, segment, role, part, 0) for i, (role, part) in enumerate(facts)]
    lengths = draw(st.lists(st.integers(0, 4), max_size=3))
    for branch, length in enumerate(lengths, start=len(lengths) > 1):
        start = len(facts)
        slots += [(start + i, segment, int(Role.RESPONSE), 0, branch) for i in range(length)]
    return slots


@st.composite
def tidy_rows(draw, batch: int) -> Slots:
    """Rows of packed examples with padding between and behind."""
    rows = []
    for _ in range(batch):
        row = []
        for segment in range(1, 1 + draw(st.integers(0, 3))):
            row += draw(examples(segment)) + [(0, 0, 0, 0, 0)] * draw(st.integers(0, 1))
        rows.append(row)
    width = max(1, *(len(row) for row in rows)) + draw(st.integers(0, 2))
    return stack([row + [(0, 0, 0, 0, 0)] * (width - len(row)) for row in rows])


@st.composite
def wild_rows(draw, batch: int) -> Slots:
    """Rows of slots in no order at all."""
    width = draw(st.integers(1, 9))
    slot = st.tuples(
        st.integers(0, 7),
        st.integers(0, 2),
        st.integers(1, 4),
        st.integers(0, 2),
        st.integers(0, 2),
    )
    row = st.lists(slot, min_size=width, max_size=width)
    return stack(draw(st.lists(row, min_size=batch, max_size=batch)))


def stack(rows: list[list[tuple[int, ...]]]) -> Slots:
    """Slots from rows of (position, segment, role, part, branch)."""
    return Slots(*np.moveaxis(np.asarray(rows, np.int32).reshape(len(rows), -1, 5), 2, 0))


layouts = st.integers(1, 3).flatmap(lambda batch: tidy_rows(batch) | wild_rows(batch))


@st.composite
def queries_and_keys(draw) -> tuple[Slots, Slots]:
    """Keys, and queries that are all of them, a part of them (chunked prefill), or others."""
    batch = draw(st.integers(1, 2))
    keys = draw(tidy_rows(batch) | wild_rows(batch))
    match draw(st.sampled_from(["same", "slice", "other"])):
        case "same":
            return keys, keys
        case "slice":
            width = keys.position.shape[1]
            start = draw(st.integers(0, width - 1))
            stop = draw(st.integers(start + 1, width))
            return keys.map(lambda field: field[:, start:stop]), keys
    return draw(tidy_rows(batch) | wild_rows(batch)), keys
