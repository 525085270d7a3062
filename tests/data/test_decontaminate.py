"""Protected rows are found wherever 13 words of them stand, and nothing else is cut."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxablate.data.decontaminate import Protected, paragraphs
from jaxablate.data.document import Document
from jaxablate.data.text_config import ProtectConfig
from jaxablate.data.words import split_words

LONG = "Which of these nine layers of the old stone wall was laid first by the masons of the town?"
SHORT = "What do bees eat?"


@pytest.fixture(scope="module")
def protected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "arc_easy").mkdir()
    choices = {"text": ["the lowest layer of them all", "the top"], "label": ["A", "B"]}
    table = [
        {"question": question, "choices": choices, "answerKey": "A"} for question in (LONG, SHORT)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in table)
    (folder / "arc_easy" / "validation.jsonl").write_text(lines)
    return Protected.load(ProtectConfig(folder=str(folder), tasks=("arc_easy",)))


def cut(protected, text, *, whole=False):
    document, hits = protected.clean(Document("d", text), whole=whole)
    return (document.text if document else None), [(hit.paragraph, hit.row) for hit in hits]


def test_thirteen_words_inside_a_book_are_cut_with_their_paragraph(protected):
    part = "NINE layers, of the old stone -- wall: was laid first by the"
    text = f"One.\n\nThey asked which {part} masons?\nAnd more.\n\nThree."
    assert len(part.replace("--", "").split()) == 12
    text = text.replace("which NINE", "these NINE")
    assert cut(protected, text) == ("One.\n\nThree.", [(1, 0)])


def test_twelve_words_are_not(protected):
    text = "One.\n\nthese nine layers of the old stone wall was laid first by a mason.\n\nThree."
    assert cut(protected, text) == (text, [])


def test_a_run_across_paragraphs_cuts_all_of_them(protected):
    text = "A.\n\n" + LONG.replace("stone wall", "stone\n\nwall") + "\n\nB."
    assert cut(protected, text) == ("A.\n\nB.", [(1, 0), (2, 0)])


def test_question_and_answer_together_are_a_run(protected):
    text = "x y\n\nby the masons of the town? The lowest layer of them all!\n\nz"
    assert cut(protected, text) == (text, [])
    text = "x\n\nwas laid first by the masons of the town? The lowest layer of them\n\nz"
    assert cut(protected, text) == ("x\n\nz", [(1, 0)])


@pytest.mark.parametrize(
    "line", ["What do bees eat?", "WHAT do bees eat", "Question: What do bees eat?"]
)
def test_a_short_question_is_found_as_a_line_of_its_own(protected, line):
    assert cut(protected, f"Question: a\nAnswer: b\n\n{line}\nAnswer: honey\n\nEnd.") == (
        "Question: a\nAnswer: b\n\nEnd.",
        [(1, 1)],
    )
    assert cut(protected, "One.\n\nWhat do\nbees eat?\n\nEnd.")[0] == "One.\n\nEnd."


def test_a_short_question_within_a_sentence_is_left(protected):
    text = "One.\n\nI wonder: what do bees eat?\n\nWhat do bees eat in winter?"
    assert cut(protected, text) == (text, [])


def test_whole_documents_are_left_out_where_half_would_be_none(protected):
    assert cut(protected, f"Question: {SHORT}\nAnswer: honey", whole=True) == (None, [(0, 1)])
    text = "Question: What do cats eat?\nAnswer: mice"
    assert cut(protected, text, whole=True) == (text, [])


def test_letters_that_change_their_length_in_lower_case_do_not_shift_the_cut(protected):
    text = f"\u0130\u0130\u0130 \u00e9\n\n \n{LONG}\n\n\u0130nd \ud83d"
    assert cut(protected, text)[0] == "\u0130\u0130\u0130 \u00e9\n\n \n\u0130nd \ud83d"


def test_nothing_is_protected_without_tasks():
    assert cut(Protected.load(ProtectConfig()), LONG) == (LONG, [])


@given(st.text(alphabet="ab1 \n\t\u00e9\u212a"))
def test_paragraphs_put_together_are_the_text(text):
    assert "".join(paragraphs(text)) == text


@given(st.lists(st.sampled_from(["a", "b", "ab", "0"]), min_size=3, max_size=30))
def test_runs_have_the_same_hash_where_they_have_the_same_words(words):
    split = split_words(", ".join(words))
    assert split.joined(0, len(words)) == " ".join(words).encode()
    first = np.arange(len(words) - 2)
    hashes = split.runs(first, 3).tolist()
    groups = {}
    for index, value in enumerate(hashes):
        groups.setdefault(value, set()).add(tuple(words[index : index + 3]))
    assert all(len(group) == 1 for group in groups.values())
    assert len(groups) == len({tuple(words[i : i + 3]) for i in first})
