"""What every named mask must hold; a new recipe is tested here without a line of its own."""

import doctest
import inspect

import numpy as np
import pytest

from jaxablate.core.slots import Role, Slots, rows
from jaxablate.masks import named, parse
from jaxablate.masks.draw import read_layout
from jaxablate.masks.intervals import row_intervals
from jaxablate.masks.lower import lower, prompt_sees_response, valid_cuts
from jaxablate.masks.recipes import RECIPES

MASKS = {**named(), "sliding_window(3)": parse("sliding_window(3)")}
LAYOUTS = [
    "P1",
    "R1",
    "P1 R1",
    "P4",
    "P4 R3",
    "P1 R4",
    "L2 P3 G2 R3",
    "P2/1 P3/2 R2",
    "P3 R2; P1; R2; P2 R1 ..",
    ".. P3 R2",
    "P3 R1 . P2 R2 .",
    "P3 {R2|R1|R3}",
    "P2 {R1|R1}; P3 G1 {R2|R2}; .",
]

each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def allowed(slots: Slots) -> np.ndarray:
    """The rule above all rules, spelt out: real, same segment, no sibling branches."""
    query, key = slots.map(lambda x: x[:, :, None]), slots.map(lambda x: x[:, None, :])
    siblings = (query.branch != key.branch) & (query.branch * key.branch > 0)
    return (query.segment == key.segment) & (query.segment > 0) & ~siblings


@each_mask
def test_true_means_may_attend_and_every_real_slot_sees_itself(mask):
    slots = read_layout("P2 R2")
    assert mask.materialise(slots, slots).dtype == bool
    assert mask.materialise(slots, slots)[0].diagonal().all()


@each_mask
@each_layout
def test_padding_is_isolated_and_no_real_query_is_empty(mask, layout):
    slots = read_layout(layout)
    seen = mask.materialise(slots, slots)
    assert not (seen & ~allowed(slots)).any()
    np.testing.assert_array_equal(seen.any(axis=2), slots.segment > 0)


@each_mask
@each_layout
def test_lowered_is_materialised(mask, layout):
    slots = read_layout(layout)
    expected = mask.materialise(slots, slots)
    found = lower(mask, slots, slots).boolean(expected.shape[-1])
    np.testing.assert_array_equal(found, expected)


@each_mask
@each_layout
def test_decode_and_chunks_are_rows_of_the_whole(mask, layout):
    slots = read_layout(layout)
    whole = mask.materialise(slots, slots)
    width = slots.role.shape[1]
    for size in (1, 3):
        for start in range(0, width, size):
            chunk = slots.map(lambda x, a=start, b=start + size: x[:, a:b])
            rows_of_whole = whole[:, start : start + size]
            np.testing.assert_array_equal(mask.materialise(chunk, slots), rows_of_whole)
            start_, end = row_intervals(mask, chunk, slots).padded()
            key = np.arange(width)
            lowered = ((start_[..., None] <= key) & (key < end[..., None])).any(axis=2)
            np.testing.assert_array_equal(lowered, rows_of_whole)


@each_mask
@each_layout
def test_chunks_at_valid_cuts_need_only_the_keys_that_are_filled(mask, layout):
    slots = read_layout(layout)
    whole = mask.materialise(slots, slots)
    width = slots.role.shape[1]
    cuts = valid_cuts(mask, slots)
    for cut in range(1, width):
        future = whole[:, :cut, cut:].any()
        assert (cut in cuts) == (not future)


@each_mask
@pytest.mark.parametrize("prompt", ["P1", "P3", "P2/1 P2/2 G1"])
def test_trunk_with_one_branch_is_the_unshared_example(mask, prompt):
    lengths = (2, 1, 3)
    shared = read_layout(f"{prompt} {{{'|'.join(f'R{n}' for n in lengths)}}}")
    seen = mask.materialise(shared, shared)[0]
    for branch, length in enumerate(lengths, start=1):
        alone = read_layout(f"{prompt} R{length}")
        chosen = np.flatnonzero((shared.branch[0] == 0) | (shared.branch[0] == branch))
        np.testing.assert_array_equal(shared.position[:, chosen], alone.position)
        expected = mask.materialise(alone, alone)[0]
        np.testing.assert_array_equal(seen[np.ix_(chosen, chosen)], expected)


@each_mask
def test_packing_changes_nothing(mask):
    packed = read_layout("P3 G1 R2; P2 R3; P1/1 P2/2 R1")
    seen = mask.materialise(packed, packed)[0]
    start = 0
    for layout in ("P3 G1 R2", "P2 R3", "P1/1 P2/2 R1"):
        alone = read_layout(layout)
        stop = start + alone.role.shape[1]
        expected = mask.materialise(alone, alone)[0]
        np.testing.assert_array_equal(seen[start:stop, start:stop], expected)
        start = stop


@pytest.mark.parametrize("name", ["prefix_lm", "shared_prompt", "segment_bidirectional"])
@pytest.mark.parametrize("prompt", [0, 1])
def test_prompts_of_at_most_one_token_leave_the_mask_causal(name, prompt):
    slots = rows([6], 8, [prompt])
    assert lower(parse(name), slots, slots).kind == "causal"


def test_full_bidirectional_is_causal_for_a_single_query():
    """One new token sees the whole cache under either, so decode is never ablated."""
    keys = rows([7], 9, [3])
    query = keys.map(lambda field: field[:, 6:7])
    full, causal = (
        parse(name).materialise(query, keys) for name in ("full_bidirectional", "causal")
    )
    np.testing.assert_array_equal(full, causal)


def test_prefill_alone_is_bidirectional_under_prefix_lm_and_full():
    prompt = rows([4, 2], 5)
    assert lower(parse("prefix_lm"), prompt, prompt).kind == "full"
    assert lower(parse("full_bidirectional"), prompt, prompt).kind == "full"


def test_only_full_bidirectional_lets_a_prompt_see_its_response():
    slots = rows([5, 3], 6, [3, 3])
    seeing = {name: prompt_sees_response(mask, slots).tolist() for name, mask in MASKS.items()}
    assert seeing.pop("full_bidirectional") == [True, False]
    assert all(rows == [False, False] for rows in seeing.values())


def test_gist_hides_the_prompt_from_responses_only():
    slots = read_layout("P3 G1 R2")
    seen = parse("gist").materialise(slots, slots)[0]
    response, prompt, gist = (slots.role[0] == r for r in (Role.RESPONSE, Role.PROMPT, Role.GIST))
    assert not seen[np.ix_(response, prompt)].any()
    assert seen[np.ix_(response, gist)].all()
    assert seen[np.ix_(gist, prompt)].all()


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_recipe_is_drawn_and_says_where_it_comes_from(name):
    recipe = RECIPES.get(name)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(recipe))
    drawings = [example.want for example in examples]
    assert any("P " in drawing and "#" in drawing for drawing in drawings)
