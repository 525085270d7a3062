"""Pieces of the command line that stand alone."""

import argparse

import pytest

from jaxablate.cli.parser import one_of, split_list, whole


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("causal", ["causal"]),
        ("causal,prefix_lm", ["causal", "prefix_lm"]),
        ("window(4, 3) & causal , causal", ["window(4, 3) & causal", "causal"]),
        ("~(a(1,2) | b(3,(4,5))),c", ["~(a(1,2) | b(3,(4,5)))", "c"]),
        (" , ,", []),
        ("a),b", ["a)", "b"]),
    ],
)
def test_commas_split_only_outside_parentheses(text, parts):
    assert split_list(text) == parts


@pytest.mark.parametrize("text", ["", "1.5", "0", "-3", "1e3", "²", "0x1", "--2"])
def test_a_whole_number_below_the_least_or_of_another_kind_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="needs a whole number >= 1"):
        whole(1)(text)


def test_whole_numbers_pass():
    assert [whole(0)(text) for text in ("0", "7", "+12")] == [0, 7, 12]


def test_a_choice_names_the_nearest():
    with pytest.raises(argparse.ArgumentTypeError, match="did you mean 'hf'"):
        one_of("format", ["hf", "jaxablate"])("hff")
