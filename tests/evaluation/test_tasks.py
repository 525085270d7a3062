"""Renderings equal the golden ones, the harness' own, and the reference system's templates."""

import gzip
import json
from pathlib import Path

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.sources import Rows, load_rows
from jaxablate.data.synthetic import instrument_names
from jaxablate.data.synthetic.instrument import INSTRUMENTS
from jaxablate.evaluation.task import VARIANTS, find_task, render_rows, task_names
from tests.evaluation.harness import harness_gold, harness_requests, harness_task

NAMES = ("arc_challenge", "arc_easy", "hellaswag", "piqa", "winogrande")
GOLDEN = Path(__file__).parents[1] / "golden" / "tasks"
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def rows_of(rows):
    return Rows(tuple(rows), tuple(range(len(rows))), len(rows), "digest", "here")


def rendered(name, variant, rows):
    items, _ = render_rows(find_task(name), variant, rows_of(rows), "validation")
    return items


def test_tasks_are_found_by_their_files():
    benchmarks = [name for name in task_names() if not find_task(name).instrument]
    assert tuple(benchmarks) == NAMES


def test_every_instrument_is_a_task_in_all_wordings(monkeypatch):
    few = {n: INSTRUMENTS.get(n)._replace(size=2) for n in instrument_names()}
    monkeypatch.setattr(INSTRUMENTS, "_things", few)
    instruments = {name for name in task_names() if find_task(name).instrument}
    assert instruments == set(instrument_names())
    for name in instruments:
        rows = load_rows(name, "validation", limit=2)
        standard, compat = (render_rows(find_task(name), v, rows, "validation") for v in VARIANTS)
        assert standard == compat


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_rendering_is_the_golden_one(name, variant):
    table = golden(name)
    for item, wanted in zip(rendered(name, variant, table["rows"]), table[variant], strict=True):
        got = {
            "contexts": list(item.contexts),
            "continuations": list(item.continuations),
            "answers": list(item.answers),
            "label": item.label,
        }
        assert got == wanted


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_label_is_in_range_and_chance_is_one_over_the_choices(name, variant):
    for row, item in zip(
        golden(name)["rows"], rendered(name, variant, golden(name)["rows"]), strict=True
    ):
        choices = row.get("endings") or row.get("choices", {}).get("text") or ["a", "b"]
        assert item.chance == 1 / len(choices)
        assert 0 <= item.label < len(choices)


@pytest.mark.parametrize("name", NAMES)
def test_standard_asks_what_the_harness_asks(name, tmp_path):
    check_against_harness(name, golden(name)["rows"], tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the benchmark data")
@pytest.mark.parametrize("name", NAMES)
def test_standard_asks_what_the_harness_asks_on_real_rows(name, tmp_path):
    rows = load_rows(name, "validation", folder=SHARED, limit=50)
    check_against_harness(name, list(rows.rows), tmp_path)


def check_against_harness(name, rows, folder):
    task = harness_task(name, rows, folder)
    docs = list(task.validation_docs())
    items = rendered(name, "standard", rows)
    for item, doc, requests in zip(items, docs, harness_requests(task), strict=True):
        ours = list(zip(item.contexts, item.continuations, strict=True))
        assert ours == requests
        assert item.label == harness_gold(task, doc)


@pytest.mark.parametrize("name", ["hellaswag", "piqa", "arc_easy", "arc_challenge"])
def test_lengths_are_those_of_the_harness_choices(name, tmp_path):
    rows = golden(name)["rows"]
    task = harness_task(name, rows, tmp_path)
    for item, doc in zip(rendered(name, "standard", rows), task.validation_docs(), strict=True):
        assert list(item.answers) == task.doc_to_choice(doc)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the benchmark data")
@pytest.mark.parametrize("name", NAMES)
def test_compat_has_the_templates_of_the_reference_system(name):
    def collapsed(text):
        return " ".join(text.split())

    with gzip.open(SHARED / name / "validation.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    for row, item in zip(rows, rendered(name, "compat", rows), strict=True):
        if name == "hellaswag":
            prompt = collapsed(row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"])
            choices = [" " + collapsed(ending) for ending in row["endings"]]
        elif name == "winogrande":
            prompt, _, rest = row["sentence"].partition("_")
            choices = [row["option1"] + rest, row["option2"] + rest]
        else:
            question = row.get("goal") or row["question"]
            texts = row["choices"]["text"] if "choices" in row else [row["sol1"], row["sol2"]]
            prompt = collapsed(question) + "\nAnswer:"
            choices = [" " + collapsed(text) for text in texts]
        assert set(item.contexts) == {prompt}
        assert list(item.continuations) == choices


def test_unknown_tasks_and_variants_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'winogrande'"):
        find_task("winogrand")
    with pytest.raises(UserError, match="unknown variant 'leaderboard'; known: compat, standard"):
        find_task("piqa").variant("leaderboard")


ARC = {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "E"}
BLANK = {"sentence": "no blank here", "option1": "a", "option2": "b", "answer": "1"}


@pytest.mark.parametrize(("name", "row"), [("arc_easy", ARC), ("winogrande", BLANK)])
def test_compat_leaves_out_rows_that_standard_refuses(name, row):
    assert render_rows(find_task(name), "compat", rows_of([row]), "validation") == ([], 1)
    with pytest.raises(UserError, match=f"{name}, validation/0"):
        render_rows(find_task(name), "standard", rows_of([row]), "validation")


@pytest.mark.parametrize(
    ("label", "message"), [("4", "must be in 0..3, got 4"), ("one", "must be an integer")]
)
def test_a_label_out_of_range_names_the_row(label, message):
    row = {**golden("hellaswag")["rows"][0], "label": label}
    with pytest.raises(UserError, match=message):
        rendered("hellaswag", "standard", [row])
