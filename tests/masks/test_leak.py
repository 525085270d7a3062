"""The static guard decides reachability exactly, says how, and stays fast and small."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role, Slots, rows
from jaxablate.masks import named, parse
from jaxablate.masks.draw import read_layout
from jaxablate.masks.leak import LeakError, leak_report, require_no_leak
from tests.masks.strategies import layouts, masks, masks_by_place


def next_slot(slots: Slots) -> np.ndarray:
    """Every slot predicts the next slot of its segment and branch, or of its trunk's branch."""
    targets = np.full(slots.role.shape, -1, np.int32)
    same = (slots.segment[:, 1:] == slots.segment[:, :-1]) & (slots.segment[:, 1:] > 0)
    follows = same & (slots.position[:, 1:] == slots.position[:, :-1] + 1)
    index = np.arange(1, slots.role.shape[1], dtype=np.int32)
    targets[:, :-1] = np.where(follows, index, -1)
    return targets


def layer_relations(layers, slots: Slots, num_heads: int) -> list[np.ndarray]:
    """The visible pairs of each layer, heads joined, by the definition."""
    return [
        np.any([mask.materialise(slots, slots, layer=i, head=h) for h in range(num_heads)], axis=0)
        for i, mask in enumerate(layers)
    ]


def distances(relations: list[np.ndarray], width: int) -> np.ndarray:
    """Fewest attention steps from each slot to each other, top layer first; inf if unreachable."""
    batch = relations[0].shape[0]
    steps = np.full((batch, width, width), np.inf)
    steps[:, np.arange(width), np.arange(width)] = 0
    for relation in reversed(relations):
        through = np.where(relation[:, None], steps[..., None] + 1, np.inf).min(
            axis=2, initial=np.inf
        )
        steps = np.minimum(steps, through)
    return steps


def check_against_closure(report, relations, slots, targets):
    steps = distances(relations, targets.shape[1])
    to_target = np.take_along_axis(steps, np.maximum(targets, 0)[..., None], axis=2)[..., 0]
    leaking = (targets >= 0) & np.isfinite(to_target)
    assert report.leaks == leaking.any()
    if not report.leaks:
        return
    row = int(np.argmax(leaking.any(axis=1)))
    first = int(np.argmax(leaking[row]))
    assert (report.row, report.query, report.target) == (row, first, targets[row, first])
    assert report.depth == to_target[row, first] == len(report.path) - 1
    assert (report.path[0], report.path[-1]) == (first, report.target)
    names = [Role(int(role)).name.lower() for role in slots.role[row][leaking[row]]]
    assert report.count_by_role == {name: names.count(name) for name in names}
    at = len(relations)
    for query, key in zip(report.path[:-1], report.path[1:], strict=True):
        at = max(layer for layer in range(at) if relations[layer][row, query, key])


@settings(max_examples=80, deadline=None)
@given(st.lists(masks_by_place, min_size=1, max_size=4), layouts, st.data())
def test_verdict_path_and_depth_are_those_of_the_boolean_closure(layers, slots, data):
    width = slots.role.shape[1]
    wild = data.draw(st.lists(st.integers(-1, width - 1), min_size=width, max_size=width))
    targets = data.draw(
        st.sampled_from([next_slot(slots), np.broadcast_to(wild, slots.role.shape)])
    ).astype(np.int32)
    report = leak_report(layers, slots, targets, num_heads=3)
    check_against_closure(report, layer_relations(layers, slots, 3), slots, targets)


@settings(max_examples=50, deadline=None)
@given(masks, layouts, st.integers(1, 5), st.data())
def test_no_order_of_inference_certifies_what_leaks(mask, slots, num_layers, data):
    shape = slots.role.shape
    times = data.draw(
        st.lists(st.integers(0, 4), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    )
    order = np.reshape(times, shape).astype(np.int32)
    layers, targets = [mask] * num_layers, next_slot(slots)
    report = leak_report(layers, slots, targets, order=order)
    check_against_closure(report, layer_relations(layers, slots, 1), slots, targets)


def leaking_rows(mask: str, layout: str, num_layers: int = 3) -> list[int]:
    """The positions whose next-slot target is reachable, each asked alone."""
    slots = read_layout(layout)
    everywhere = next_slot(slots)
    found = []
    for i in range(slots.role.shape[1]):
        targets = np.where(np.arange(slots.role.shape[1]) == i, everywhere, -1).astype(np.int32)
        if leak_report([parse(mask)] * num_layers, slots, targets).leaks:
            found.append(i)
    return found


@pytest.mark.parametrize(
    ("mask", "layout", "expected"),
    [
        ("causal", "P4 R4", []),
        ("prefix_lm", "P4 R4", [0, 1, 2]),  # rows [0, P-2]
        ("prefix_lm", "P1 R4", []),
        ("prefix_lm", "P3 R2; P2 R2", [0, 1, 5]),  # rows a .. a+P-2 of each packed example
        ("full_bidirectional", "P3 R3", [0, 1, 2, 3, 4]),
        ("window(3, 1)", "P3 R3", [0, 1, 2, 3, 4]),  # any look ahead
        ("chunk(3)", "P8", [0, 1, 3, 4, 6]),  # (i+1) % 3 != 0
        ("gist", "P3 G1 R3", []),
        ("sliding_window(2)", "P4 R4", []),
        ("prefix_lm", "P3 {R2|R2}", [0, 1]),
        ("segment_bidirectional", "P2/1 P2/2 R2", [0, 2]),
    ],
)
def test_closed_forms(mask, layout, expected):
    assert leaking_rows(mask, layout) == expected


def test_one_summary_row_leaks_at_depth_two_only():
    """Slot 3 sees everything; later slots see it, and through it their own targets."""
    slots = read_layout("P3 G1 P4")
    targets = next_slot(slots)
    targets[0, 3] = -1
    mask = parse("causal | from(gist)")
    assert not leak_report([mask], slots, targets).leaks
    report = leak_report([mask] * 2, slots, targets)
    assert report.leaks
    assert (report.query, report.path, report.depth) == (4, (4, 3, 5), 2)
    assert report.count_by_role == {"prompt": 3}
    assert report.sentence() == (
        "position 4 (prompt) can see its own target, slot 5, through slots 4 -> 3 -> 5 in 2 "
        "layers; 3 prompt positions of row 0 leak"
    )


def test_layers_are_applied_from_the_top_down():
    """The summary is read above and written below, or not at all."""
    slots = read_layout("P3 G1 P4")
    targets = next_slot(slots)
    targets[0, 3] = -1
    read, write = parse("causal"), parse("causal | from(gist)")
    assert leak_report([write, read], slots, targets).leaks
    assert not leak_report([read, write], slots, targets).leaks


def test_one_leaky_head_is_enough_and_heads_that_do_not_exist_are_not():
    slots = read_layout("P2 R2")
    mask = parse("causal | heads(2)")
    assert leak_report([mask], slots, next_slot(slots)).leaks
    assert leak_report([mask], slots, next_slot(slots), num_heads=3).leaks
    assert not leak_report([mask], slots, next_slot(slots), num_heads=2).leaks


def test_declared_order_is_believed_where_it_certifies():
    slots = read_layout("P3 R3")
    backwards = np.array([[5, 4, 3, 2, 1, 0]], np.int32)
    targets = np.array([[-1, 0, 1, 2, 3, 4]], np.int32)
    report = leak_report([parse("~causal")] * 2, slots, targets, order=backwards)
    assert not report.leaks
    assert "computes later" in report.reason


def test_guard_refuses_with_the_path_and_lets_through_when_told():
    slots = read_layout("P2 R2")
    layers = [parse("full_bidirectional")]
    with pytest.raises(LeakError, match=r"slot 1, through slots 0 -> 1 in 1 layer.*allow_leaky"):
        require_no_leak(layers, slots, next_slot(slots))
    report = require_no_leak(layers, slots, next_slot(slots), allow_leaky=True)
    assert report.leaks
    assert report.to_json()["path"] == [0, 1]
    assert isinstance(LeakError(report), UserError)


def test_targets_outside_the_row_are_refused():
    slots = read_layout("P2 R2")
    with pytest.raises(UserError, match="slots of their row"):
        leak_report([parse("causal")], slots, np.full((1, 4), 4, np.int32))
    with pytest.raises(UserError, match="shape"):
        leak_report([parse("causal")], slots, np.zeros((1, 3), np.int32))


def test_first_leaking_row_is_named_across_blocks(monkeypatch):
    monkeypatch.setattr("jaxablate.masks.leak._SLOTS_AT_ONCE", 16)
    slots = rows([1, 1, 1, 1, 1, 4], 8)
    report = leak_report([parse("full_bidirectional")], slots, next_slot(slots))
    assert (report.row, report.query) == (5, 0)


def test_many_rows_are_certified_quickly():
    random = np.random.default_rng(0)
    prompt = random.integers(60, 120, 20000)
    slots = rows(prompt + random.integers(5, 40, 20000), 160, prompt)
    supervised = np.arange(160) >= prompt[:, None] - 1
    targets = np.where(supervised, next_slot(slots), -1).astype(np.int32)
    start = time.process_time()
    assert not leak_report([named()["prefix_lm"]] * 28, slots, targets).leaks
    assert time.process_time() - start < 8


@pytest.mark.parametrize(
    "mask", ["prefix_lm", "causal | from(gist)", "window(9, 4) & same_part | causal"]
)
def test_memory_of_a_long_row_is_far_below_one_array_over_all_pairs(mask):
    width = 32768
    slots = rows([width], width, [9000])
    slots.role[0, 20000] = Role.GIST
    targets = np.where(np.arange(width) >= 8999, next_slot(slots), -1).astype(np.int32)
    tracemalloc.start()
    leak_report([parse(mask)] * 4, slots, targets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < width * width / 8
