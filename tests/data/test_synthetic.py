"""Instruments: a reader of the text alone agrees with every label; no row is in two splits."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.sources import MADE, load_rows, rows_digest, source
from jaxablate.data.synthetic import documents, instrument_names, names, rows
from jaxablate.data.synthetic.clubs import members
from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import INSTRUMENTS, make_row
from jaxablate.data.synthetic.words import CLUBS, KEYS, NUMBERS, PEOPLE, VALUES

ALL = instrument_names()
SOLVED = [name for name in ALL if name != "null_mcq"]
MADE_ROWS = 150  # of a table; enough, and quick


@cache
def table_of(name, split, count=MADE_ROWS):
    return [make_row(name, split, index).to_row() for index in range(count)]


CHESS = ("Clara", "Grace", "Leo")
DIGESTS = {
    "clubs": "a82c76f8",
    "clubs_first": "d40d6271",
    "recall": "eb3e756c",
    "compress": "5419d9c7",
    "compress_1": "251f266f",
    "compress_2": "ea4ceddc",
    "compress_4": "5419d9c7",
    "compress_8": "79e84b0b",
    "recall_mcq": "a893e98d",
    "null_mcq": "ec571b29",
    "parts": "0b9bc4a6",
}


def pairs_in(text):
    """Key to value, from the list between a heading and the first full stop."""
    listed = re.match(r"(?:Pairs|Code): ([^.]*)\.", text)[1]
    return dict(pair.split(" ", 1) for pair in listed.split("; "))


def answer(text):
    """What a reader of the text (and of the table of clubs) answers."""
    if "Club:" in text:
        people = re.search(r"People: ([^.]*)\.", text)[1].split(", ")
        club = re.search(r"Club: (\w+)\.", text)[1]
        (member,) = [name for name in people if name in members()[club]]
        return member
    if text.startswith("Code:"):
        message = re.search(r"Message: ([^.]*)\.", text)[1].split()
        word = NUMBERS.index(re.search(r"Word (\w+):$", text)[1])
        return pairs_in(text)[message[word]]
    return pairs_in(text)[re.search(r"Ask: (\w+)$", text)[1]]


def reader_agrees(table):
    return all(row["choices"][row["label"]] == answer(row["prompt"]) for row in table)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("name", SOLVED)
def test_the_right_answer_is_what_an_independent_reader_answers(name, split):
    table = table_of(name, split)
    assert reader_agrees(table)
    shifted = [{**row, "label": (row["label"] + 1) % len(row["choices"])} for row in table]
    assert not any(reader_agrees([row]) for row in shifted)


@pytest.mark.parametrize("name", ["recall", "recall_mcq", "null_mcq", "clubs", "parts", "compress"])
def test_choices_are_distinct_and_labels_uniform(name):
    draws = range(1000)
    table = [INSTRUMENTS.get(name).make(Draw(f"label/{i}")).to_row() for i in draws]
    sizes = {len(row["choices"]) for row in table}
    assert len(sizes) == 1
    assert all(len(set(row["choices"])) == len(row["choices"]) for row in table)
    (size,) = sizes
    counts = Counter(row["label"] for row in table)
    chi_square = sum((counts[i] - 1000 / size) ** 2 / (1000 / size) for i in range(size))
    assert chi_square < {4: 16.3, 6: 20.5, 8: 24.3}[size]  # exceeded by chance once in a thousand


@pytest.mark.parametrize("name", ALL)
def test_every_choice_stands_in_the_prompt_so_that_words_give_nothing_away(name):
    for row in table_of(name, "validation"):
        assert all(re.search(rf" {choice}[;.,]", row["prompt"]) for choice in row["choices"])


@pytest.mark.parametrize("name", ALL)
def test_the_parts_of_a_prompt_begin_where_they_are_said_to(name):
    for row in table_of(name, "validation")[:50]:
        cuts = [0, *row["parts"], len(row["prompt"])]
        parts = [row["prompt"][a:b] for a, b in pairwise(cuts)]
        if name == "parts":
            assert [part.split()[0] for part in parts] == ["Code:", "Message:"]
        elif name.startswith("compress"):
            count = int(name.partition("_")[2] or 4)
            assert parts[1] == "".join(f" {word}" for word in NUMBERS[:count])
            assert parts[0].endswith("Notes:")
            assert parts[2].startswith(". Ask:")
        else:
            assert len(parts) == 1


def content(row):
    """What must be new in a row: its pairs, or its six people."""
    text = row["prompt"]
    if "People:" in text:
        return frozenset(re.search(r"People: ([^.]*)\.", text)[1].split(", "))
    key = re.search(r"(?:Message: ([^.]*)\.|Ask: (\w+)$)", text)
    return frozenset(pairs_in(text).items()), key[1]


@pytest.mark.parametrize("name", ALL)
def test_validation_shares_no_content_with_training_rows_nor_with_documents(name):
    validation = {content(row) for row in table_of(name, "validation")}
    assert len(validation) > 0.95 * MADE_ROWS
    assert not validation & {content(row) for row in table_of(name, "train")}


def test_no_exercise_of_a_document_has_the_six_people_of_a_validation_row():
    validation = {content(row) for row in table_of("clubs", "validation")}
    taught = {
        content({"prompt": text.text})
        for text in documents("clubs", count=800, seed=0)
        if "People:" in text.text
    }
    assert len(taught) > 200
    assert not validation & taught


def test_sides_are_told_apart_by_a_rule_and_not_by_luck(monkeypatch):
    """With every content on one side the other side cannot be made at all."""
    from jaxablate.data.synthetic import instrument

    monkeypatch.setattr(instrument, "is_validation", lambda content: True)
    monkeypatch.setattr(instrument, "_TRIES", 3)
    with pytest.raises(UserError, match="no train row in 3 draws"):
        instrument.make_row("recall", "train", 0)
    with pytest.raises(UserError, match="no document in 3 draws"):
        instrument.make_lesson("parts", 0, 0)


def test_the_label_of_null_mcq_is_independent_of_its_text():
    make = INSTRUMENTS.get("null_mcq").make
    table = [make(Draw(f"null/{i}")).to_row() for i in range(2000)]
    for row in table:
        assert re.search(r"Ask: (\w+)$", row["prompt"])[1] not in pairs_in(row["prompt"])
    right = [row["choices"][row["label"]] for row in table]
    values = [list(pairs_in(row["prompt"]).values()) for row in table]
    places = Counter(own.index(value) for own, value in zip(values, right, strict=True))
    longest = sum(
        value == max(row["choices"], key=len) for value, row in zip(right, table, strict=True)
    )
    first = sum(value == min(row["choices"]) for value, row in zip(right, table, strict=True))
    assert all(abs(count - 400) < 75 for count in places.values())  # four standard deviations
    assert abs(longest - 500) < 80
    assert abs(first - 500) < 80


def test_tasks_of_compress_ask_the_same_rows_with_more_placeholders():
    tables = [table_of(f"compress_{count}", "validation") for count in (1, 2, 4, 8)]
    for row in zip(*tables, strict=True):
        assert len({(tuple(one["choices"]), one["label"], content(one)) for one in row}) == 1
    assert table_of("compress", "validation") == table_of("compress_4", "validation")


def test_clubs_last_and_first_ask_the_same():
    for last, first in zip(
        table_of("clubs", "validation"), table_of("clubs_first", "validation"), strict=True
    ):
        people, club = re.match(r"(People: .*\.) (Club: \w+\.) Member:$", last["prompt"]).groups()
        assert first["prompt"] == f"{club} {people} Member:"
        assert (last["choices"], last["label"]) == (first["choices"], first["label"])


def test_the_table_of_clubs_is_fixed_and_even():
    table = members()
    assert set(table) == set(CLUBS)
    assert {len(names) for names in table.values()} == {len(PEOPLE) // 4}
    assert set(Counter(name for names in table.values() for name in names).values()) == {4}
    assert table["chess"][:3] == CHESS


def test_words_are_in_one_list_only():
    words = [*KEYS, *VALUES, *NUMBERS, *CLUBS, *map(str.lower, PEOPLE)]
    assert len(words) == len(set(words))
    assert all(word.isalpha() for word in words)


# What a document must hold for a task to be asked in strings that were learned: the same layout.
LAYOUTS = {
    "recall": ("recall", r"Pairs: (\w+ \w+; )+\w+ \w+\. Ask: \w+"),
    "recall_mcq": ("recall", r"Pairs: (\w+ \w+ \w+; )+\w+ \w+ \w+\. Ask: \w+"),
    "null_mcq": ("recall", r"Pairs: (\w+ \w+ \w+; )+\w+ \w+ \w+\. Ask: \w+"),
    "clubs_first": ("clubs", r"Club: \w+\. People: (\w+, ){5}\w+\. Member:"),
    "parts": ("parts", r"Code: (\w+ \w+; )+\w+ \w+\. Message: [\w ]+\. Word \w+:"),
    "compress": ("compress", r"Pairs: (\w+ \w+; )+\w+ \w+\. Notes:( \w+){1,8}\. Ask: \w+"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_documents_are_read_up_to_a_prompt_of_the_task_and_go_on_with_its_answer(name):
    kind, layout = LAYOUTS[name]
    assert all(re.fullmatch(layout, row["prompt"]) for row in table_of(name, "validation"))
    taught = [
        (text.text[: text.read_only], text.text[text.read_only :])
        for text in documents(kind, count=200, seed=0)
        if re.fullmatch(layout, text.text[: text.read_only])
    ]
    assert len(taught) > 20
    assert all(re.match(rf" {answer(prompt)}\b", rest) for prompt, rest in taught)


def test_documents_never_ask_for_a_club_last():
    texts = [text.text for text in documents("clubs", count=300, seed=1)]
    assert any(text.startswith("Club:") for text in texts)
    assert not any(re.search(r"People:.*Club:", text) for text in texts)


def test_all_further_answers_of_a_document_are_right_too():
    for text in documents("recall", count=60, seed=3):
        if text.text.startswith("Pairs:"):
            again = text.text.partition("Ask: ")[2].removesuffix(".")
            assert dict(pair.split(" ", 1) for pair in again.split("; ")) == pairs_in(text.text)
    for text in documents("parts", count=60, seed=3):
        book, message = pairs_in(text.text), re.search(r"Message: ([^.]*)\.", text.text)[1].split()
        said = re.findall(r"Word (\w+): (\w+)\.", text.text)
        assert len(said) == len(message)
        assert all(book[message[NUMBERS.index(number)]] == word for number, word in said)
    for text in documents("facts", count=60, seed=3):
        has = dict(re.findall(r"(\w+) \w+s the (\w+)\.", text.text))
        for name, thing in re.findall(r"does (\w+) \w+\? The (\w+)\.", text.text):
            assert has[name] == thing
        for thing, name in re.findall(r"Who \w+ the (\w+)\? (\w+)\.", text.text):
            assert has[name] == thing
    for text in documents("clubs", count=100, seed=3):
        asked = re.findall(r"Is (\w+) in the (\w+) club\? (Yes|No)", text.text)
        assert all((name in members()[club]) == (said == "Yes") for name, club, said in asked)
        stated = re.findall(r"(\w+) (?:is in|goes to) the (\w+) club\.", text.text)
        assert all(name in members()[club] for name, club in stated)


def test_recall_is_taught_with_few_pairs_as_often_as_with_many():
    sizes = Counter(
        len(pairs_in(text.text))
        for text in documents("recall", count=2000, seed=0)
        if re.match(r"Pairs: \w+ \w+;", text.text)
    )
    assert set(sizes) == set(range(2, 25))
    assert max(sizes.values()) < 3 * min(sizes.values())


@pytest.mark.parametrize("name", names())
def test_documents_are_a_function_of_name_seed_and_index(name):
    few, more = list(documents(name, count=5, seed=4)), list(documents(name, count=9, seed=4))
    assert more[:5] == few
    assert [text.text for text in documents(name, count=5, seed=5)] != [text.text for text in few]
    assert len({text.id for text in more}) == 9
    assert all(0 <= text.read_only < len(text.text) for text in more)


def test_rows_never_change():
    """A change of a row is a change of a benchmark: raise the task's version with it."""
    tables = {name: table_of(name, "validation")[:20] for name in ALL}
    fields = source("recall").fields
    assert {name: rows_digest(table, fields)[:8] for name, table in tables.items()} == DIGESTS


def test_rows_are_loaded_like_those_of_a_file_but_from_nowhere(tmp_path, monkeypatch):
    few = {"recall": INSTRUMENTS.get("recall")._replace(size=30)}
    monkeypatch.setattr(INSTRUMENTS, "_things", few)
    loaded = load_rows("recall", "validation", folder=tmp_path / "nowhere", limit=3)
    assert list(loaded.rows) == table_of("recall", "validation")[:3]
    assert (loaded.total, loaded.origin) == (30, MADE)
    assert load_rows("recall", "validation", limit=3) == loaded
    chosen = load_rows("recall", "validation", limit=3, subset="random", seed=1)
    assert chosen.digest == loaded.digest
    assert chosen.indices != (0, 1, 2)


def test_unknown_names_and_splits_are_user_errors():
    with pytest.raises(UserError, match="did you mean 'recall'"):
        documents("recal", count=1, seed=0)
    with pytest.raises(UserError, match="count and seed >= 0"):
        documents("recall", count=-1, seed=0)
    with pytest.raises(UserError, match="unknown split of recall 'test'; known: train, validation"):
        rows("recall", "test")
