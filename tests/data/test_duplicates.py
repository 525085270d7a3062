"""A held-out record that training has seen is found, whatever its spelling; others are not."""

import json

from jaxablate.data.duplicates import near_duplicates
from jaxablate.data.records import Record

WORDS = [f"word{n}" for n in range(60)]
LONG = " ".join(WORDS)


def test_the_same_prompt_is_found_through_case_punctuation_and_spacing():
    train = [Record("train:0", "Name  THREE colours!", "", "red, blue, green")]
    held_out = [
        Record("test:0", "name three colours", "", "pink, black, white"),
        Record("test:1", "name four colours", "", "pink, black, white, red"),
    ]
    report = near_duplicates(train, held_out)
    assert (report["same_prompt"], report["near_duplicates"]) == (1, 1)
    assert report["ids"] == ["test:0"]
    assert report["pairs"][0]["train"] == "train:0"


def test_shared_text_is_the_share_of_held_out_runs_of_thirteen_words():
    train = [
        Record("train:0", "Other", "", " ".join(WORDS[:20])),
        Record("train:1", "Another", "", " ".join(WORDS[:40])),
    ]
    # 60 words and the instruction's one make 49 runs; the first 40 words hold 28 of them.
    report = near_duplicates(train, [Record("test:0", "Repeat", "", LONG)])
    assert report["shared_text"] == 1
    assert report["pairs"][0]["train"] == "train:1"
    assert report["pairs"][0]["shared_text"] == round(28 / 49, 4)
    half = near_duplicates(train, [Record("test:0", "Repeat", "", LONG)], threshold=0.6)
    assert half["near_duplicates"] == 0


def test_unrelated_sets_have_none_and_the_report_is_plain_json():
    train = [Record(f"train:{n}", f"instruction {n}", "", f"answer {n}") for n in range(30)]
    held_out = [Record(f"test:{n}", f"task {n}", "", f"result {n}") for n in range(5)]
    report = near_duplicates(train, held_out)
    assert (report["held_out"], report["near_duplicates"], report["pairs"]) == (5, 0, [])
    assert json.loads(json.dumps(report)) == report


def test_short_texts_are_compared_whole():
    twin = Record("train:0", "Add two and two", "", "four")
    moved = Record("test:0", "Add two", "and two", "four")
    longer = Record("test:1", "Add two and two", "now", "four")
    report = near_duplicates([twin], [moved, longer])
    assert report["ids"] == ["test:0"]
    assert report["pairs"][0]["shared_text"] == 1.0
