"""Drawings show the mask, layouts are read or refused."""

import pytest

from jaxablate.core.errors import UserError
from jaxablate.masks import parse
from jaxablate.masks.draw import draw, read_layout


def test_drawing_of_packed_examples_with_parts_gists_and_padding():
    assert draw("gist", "P2 G1 R2; L1 P1 R1 .").split("\n") == [
        "  PPGRRLPR.",
        "P #........",
        "P ##.......",
        "G ###......",
        "R ..##.....",
        "R ..###....",
        "L .....#...",
        "P .....##..",
        "R .....#.#.",
        ". .........",
    ]


def test_drawing_takes_masks_slots_layers_and_heads():
    mask = parse("layers(1) & heads(2) & same_segment | causal")
    slots = read_layout("P2")
    assert draw(mask, slots) == draw("causal", "PP")
    assert draw(mask, slots, layer=1, head=2) == "  PP\nP ##\nP ##"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("P4 R3", "PPPP RRR"),
        ("P4R3", "P2P2RRR"),
        ("P2/1 P1/2", "P/1 P/1 P/2"),
        ("P2", "P2/1"),
        ("P1 .2", "P.."),
        ("P2;R1", " P P ; R "),
    ],
)
def test_spellings_of_one_layout(short, long):
    for one, other in zip(read_layout(short), read_layout(long), strict=True):
        assert one.tolist() == other.tolist()


def test_branches_continue_the_trunk():
    slots = read_layout("P1; P2 {R2|R1}")
    assert slots.position.tolist() == [[0, 0, 1, 2, 3, 2]]
    assert slots.branch.tolist() == [[0, 0, 0, 1, 1, 2]]
    assert slots.segment.tolist() == [[1, 2, 2, 2, 2, 2]]


@pytest.mark.parametrize(
    "text",
    ["", " ", "Q3", "P4 R3}", "P2 {R2|R1", "P2 {R1} P1", "P3/x", "p3", "P9999", "P2 {{R1}}", ";;"],
)
def test_bad_layouts_are_refused(text):
    with pytest.raises(UserError, match="layout"):
        read_layout(text)
