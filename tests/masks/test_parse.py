"""The parser reads the algebra, writes it back, and refuses everything else with a place."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.masks import Mask, named, parse
from jaxablate.masks.atoms import ATOMS, Window
from jaxablate.masks.parse import MAX_DEPTH, MAX_LENGTH, names
from jaxablate.masks.recipes import RECIPES
from tests.masks.strategies import masks_by_place


@settings(max_examples=200, deadline=None)
@given(masks_by_place)
def test_text_and_mask_are_the_same_thing(mask):
    text = str(mask)
    assert parse(text) == mask
    assert str(parse(text)) == text


words = st.sampled_from(
    [*ATOMS.names(), *RECIPES.names(), "prompt", "0", "3", "0-4", "&", "|", "~", "(", ")", ",", " "]
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.lists(words, max_size=20).map("".join))
def test_any_text_is_a_mask_or_a_user_error(text):
    try:
        mask = parse(text)
    except UserError:
        return
    assert isinstance(mask, Mask)
    assert parse(str(mask)) == mask


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("causal|within(prompt)&~chunk( 4 )", "causal | (within(prompt) & ~chunk(4))"),
        ("(causal)", "causal"),
        ("a" * 0 + "causal & (window(2) & sink(1))", "causal & window(2) & sink(1)"),
        ("\tlayers(3,0-1,2)\n", "layers(0-3)"),
        ("window(4,0)", "window(4, 0)"),
        ("~~causal", "~~causal"),
        ("sliding_window(4096)", "causal & window(4096)"),
        ("~prefix_lm", "~(causal | within(prompt))"),
        ("gist", "causal & ~(from(response) & to(prompt))"),
    ],
)
def test_canonical_form(text, canonical):
    assert str(parse(text)) == canonical


def test_and_binds_tighter_than_or_and_not_tightest():
    assert parse("causal | chunk(2) & ~sink(1)") == parse("causal | (chunk(2) & (~sink(1)))")


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "expected a name, '~' or '\\(', got the end"),
        ("casual", 1, "unknown name 'casual'.*did you mean 'causal'"),
        ("causal & prefixlm", 10, "did you mean 'prefix_lm'"),
        ("causal &", 9, "got the end"),
        ("causal causal", 8, "expected '&', '|' or the end, got 'causal'"),
        ("(causal", 8, "got the end"),
        ("causal)", 7, "got '\\)'"),
        ("causal ; x", 8, "no character ';'"),
        ("causal\u00b2", 7, "no character"),
        ("window", 1, "window takes 1 to 2 argument\\(s\\), got 0"),
        ("causal(1)", 1, "causal takes 0 argument"),
        ("layers()", 8, "expected a number or a role, got '\\)'"),
        ("heads", 1, "takes 1 or more"),
        ("window(0)", 8, "window must be >= 1, got 0"),
        ("window(-1)", 8, "window must be >= 1, got -1"),
        ("causal - 1", 8, "no character '-'"),
        ("window(2.5)", 9, "no character '.'"),
        ("window(2, 1x)", 12, "expected ',' or '\\)', got 'x'"),
        ("window(prompt)", 8, "window takes a whole number >= 1, got 'prompt'"),
        ("sliding_window(0)", 16, "sliding_window must be >= 1, got 0"),
        ("window(99999999999999)", 8, "whole number"),
        ("window(9999999999)", 8, "must be <= 1000000000"),
        ("within(promt)", 8, "unknown role 'promt'.*did you mean 'prompt'"),
        ("within(pad)", 8, "unknown role 'pad'"),
        ("layers(5-2)", 8, "rising range"),
        ("layers(a)", 8, "rising range"),
        ("prompt", 1, "unknown name 'prompt'"),
    ],
)
def test_error_names_the_place_and_what_is_possible(text, column, says):
    with pytest.raises(UserError, match=says) as caught:
        parse(text)
    assert f"column {column}:" in str(caught.value)
    _, shown, caret = str(caught.value).split("\n")
    assert shown[4:].rstrip() == text.replace("\u00b2", " ").rstrip()
    assert len(caret) - 4 == column


def test_caret_stays_below_the_mistake_in_a_long_text():
    text = " & ".join(["causal"] * 60) + " & casual & " + " & ".join(["causal"] * 60)
    with pytest.raises(UserError, match="casual") as caught:
        parse(text)
    _, shown, caret = str(caught.value).split("\n")
    assert shown[len(caret) - 1 :].startswith("casual")
    assert len(shown) < 100


@pytest.mark.parametrize(
    "text",
    ["causal &" * 1300, "(" * 1000, "~" * 1000 + "causal", "(" * 1000 + "causal" + ")" * 1000],
)
def test_long_or_deep_text_is_refused(text):
    with pytest.raises(UserError, match=f"at most ({MAX_LENGTH}|{MAX_DEPTH})"):
        parse(text)


def test_longest_and_deepest_text_is_read():
    assert str(parse("~" * MAX_DEPTH + "causal")) == "~" * MAX_DEPTH + "causal"
    assert parse("causal".ljust(MAX_LENGTH)) == parse("causal")


def test_every_name_is_described():
    described = {name.split("(")[0] for name in names()}
    assert described == {*ATOMS.names(), *RECIPES.names()}
    assert all(text.endswith(".") for text in names().values())
    assert "window(left, [right])" in names()
    assert "layers(first, ...)" in names()


def test_every_recipe_without_argument_is_named():
    assert set(RECIPES.names()) == {*named(), "sliding_window"}
    assert all(parse(name) == mask for name, mask in named().items())
    assert parse("sliding_window(7)") == named()["causal"] & Window(7)


def test_reading_and_drawing_masks_imports_no_jax():
    code = (
        "import sys, jaxablate.masks.parse, jaxablate.masks.draw, jaxablate.masks.leak\n"
        "print(jaxablate.masks.draw.draw('gist', 'P2 G1 R2'))\n"
        "assert not {'jax', 'matplotlib', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
