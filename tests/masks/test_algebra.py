"""The laws of the algebra, each over random masks and random slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role, Slots
from jaxablate.masks import parse
from jaxablate.masks.algebra import And, Mask, Not, Nothing, Or, SameSegment
from jaxablate.masks.atoms import ATOMS, Causal, Heads, Layers, Window, Within
from jaxablate.masks.draw import read_layout
from tests.masks.strategies import layouts, masks, masks_by_place

laws = settings(max_examples=60, deadline=None)


def same(left: Mask, right: Mask, slots: Slots, layer: int = 0, head: int = 0) -> None:
    expected = right.materialise(slots, slots, layer=layer, head=head)
    np.testing.assert_array_equal(left.materialise(slots, slots, layer=layer, head=head), expected)


@laws
@given(masks, masks, layouts)
def test_de_morgan(a, b, slots):
    same(~(a & b), ~a | ~b, slots)
    same(~(a | b), ~a & ~b, slots)


@laws
@given(masks, masks, masks, layouts)
def test_absorption_commutation_association_distribution(a, b, c, slots):
    same(a & (a | b), a, slots)
    same(a | (a & b), a, slots)
    same(a & b, b & a, slots)
    same(a | b, b | a, slots)
    same(a & (b & c), (a & b) & c, slots)
    same(a & (b | c), (a & b) | (a & c), slots)


@laws
@given(masks, layouts)
def test_double_negation_and_constants(mask, slots):
    same(~~mask, mask, slots)
    same(mask & ~mask, Nothing(), slots)
    same(mask | ~mask, SameSegment(), slots)
    same(mask & SameSegment(), mask, slots)
    same(mask | Nothing(), mask, slots)


@laws
@given(masks_by_place, layouts, st.integers(0, 6), st.integers(0, 6))
def test_resolved_masks_are_the_mask_there(mask, slots, layer, head):
    resolved = mask.at(layer, head)
    assert not resolved.selects_layers
    assert not resolved.selects_heads
    expected = mask.materialise(slots, slots, layer=layer, head=head)
    np.testing.assert_array_equal(resolved.materialise(slots, slots), expected)
    in_steps = mask.at(layer, None)
    assert not in_steps.selects_layers
    same(in_steps, mask, slots, layer, head)


@laws
@given(masks_by_place, layouts)
def test_no_rule_opens_padding_other_segments_or_sibling_branches(mask, slots):
    seen = mask.materialise(slots, slots)
    query, key = slots.map(lambda x: x[:, :, None]), slots.map(lambda x: x[:, None, :])
    assert not seen[np.broadcast_to(query.segment == 0, seen.shape)].any()
    assert not seen[np.broadcast_to(key.segment == 0, seen.shape)].any()
    assert not seen[query.segment != key.segment].any()
    siblings = (query.branch != key.branch) & (query.branch > 0) & (key.branch > 0)
    assert not seen[siblings].any()


@settings(max_examples=10, deadline=None)
@given(masks, layouts)
def test_jax_slots_give_what_numpy_slots_give(mask, slots):
    expected = mask.materialise(slots, slots)
    on_device = slots.map(jnp.asarray)
    found = mask.materialise(on_device, on_device)
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(found, expected)


def test_materialise_works_on_traced_slots():
    slots = read_layout("P3 R2; P1 R2 .").map(jnp.asarray)
    mask = parse("causal & window(2) | chunk(2) & ~sink(1) | within(prompt) & same_part")
    found = jax.jit(lambda s: mask.materialise(s, s))(slots)
    np.testing.assert_array_equal(found, mask.materialise(slots, slots))


@pytest.mark.parametrize(
    ("mask", "rule"),
    [
        ("causal", lambda q, k: k.position <= q.position),
        ("window(3)", lambda q, k: q.position - 3 < k.position),
        ("window(3, 1)", lambda q, k: q.position - 3 < k.position <= q.position + 1),
        ("chunk(3)", lambda q, k: q.position // 3 == k.position // 3),
        ("sink(2)", lambda q, k: k.position < 2),
        ("within(prompt)", lambda q, k: q.role == k.role == Role.PROMPT),
        ("to(response)", lambda q, k: k.role == Role.RESPONSE),
        ("from(gist)", lambda q, k: q.role == Role.GIST),
        ("same_part", lambda q, k: q.part == k.part != 0),
        ("to_part(2)", lambda q, k: k.part == 2),
        ("from_part(1)", lambda q, k: q.part == 1),
        ("same_segment", lambda q, k: True),
        ("nothing", lambda q, k: False),
    ],
)
def test_each_atom_by_its_words(mask, rule):
    """Slot by slot in plain Python, on a trunk with two branches and a second example."""
    slots = read_layout("L1 P2/1 P2/2 G1 {R3|R2}; P2/2 R2 ..")
    facts = [Slots(*(int(field[0, i]) for field in slots)) for i in range(slots.role.shape[1])]

    def visible(q, k):
        if 0 in (q.segment, k.segment) or q.segment != k.segment:
            return False
        if q.branch and k.branch and q.branch != k.branch:
            return False
        return rule(q, k)

    expected = [[visible(q, k) for k in facts] for q in facts]
    np.testing.assert_array_equal(parse(mask).materialise(slots, slots)[0], expected)


def test_every_atom_has_a_case_above():
    covered = test_each_atom_by_its_words.pytestmark[0].args[1]
    names = {mask.split("(")[0] for mask, _ in covered}
    assert names | {"layers", "heads"} == set(ATOMS.names())


def test_masks_are_hashable_values():
    assert parse("causal | window(2)") == Causal() | Window(2)
    assert len({parse("prefix_lm"), Causal() | Within(Role.PROMPT), Causal()}) == 2
    assert Or((Causal(), Window(1))) != And((Causal(), Window(1)))


def test_layers_and_heads_resolve_to_constants_that_vanish():
    mask = parse("layers(0-1,3) & prefix_lm | ~layers(0-1,3) & causal")
    assert mask.selects_layers
    assert not mask.selects_heads
    assert mask.at(3, 0) == parse("prefix_lm")
    assert mask.at(2, 0) == parse("causal")
    assert parse("heads(1) & causal").at(0, 0) == Nothing()
    assert parse("causal | ~heads(1)").at(0, 0) == SameSegment()
    assert Not(Nothing()).at(0, 0) == SameSegment()


def test_selections_are_canonical():
    assert str(Layers.of([3, 0, 1, 2, 7])) == "layers(0-3,7)"
    assert Heads(((5, 6), (0, 4))) == Heads(((0, 6),))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Window(0),
        lambda: Window(1, -1),
        lambda: Window(10**10),
        lambda: Within(Role.PAD),
        lambda: Layers(()),
        lambda: Layers(((3, 1),)),
    ],
)
def test_atoms_refuse_arguments_without_meaning(build):
    with pytest.raises(UserError):
        build()


def test_largest_arguments_do_not_overflow():
    slots = read_layout("P3 R2")
    slots = slots._replace(position=slots.position + np.int32(10**9 - 10))
    wide = parse("window(1000000000, 1000000000) & ~sink(1000000000) | chunk(1000000000)")
    assert wide.materialise(slots, slots).all()
