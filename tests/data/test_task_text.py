"""Training rows are worded as evaluation words its prompts."""

import json

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.task_text import TASKS, own_texts, task_documents
from jaxablate.evaluation.task import TASKS as EVALUATED
from jaxablate.evaluation.tasks import (  # noqa: F401 (each registers itself)
    arc_challenge,
    arc_easy,
    hellaswag,
    piqa,
    winogrande,
)

ARC = {
    "question": "Why?",
    "choices": {"text": ["no", "so", "yes"], "label": ["1", "2", "3"]},
    "answerKey": "2",
}
ROWS = {
    "hellaswag": {
        "activity_label": "Baking",
        "ctx_a": "[header] How to bake [title] Mix.  Stir.",
        "ctx_b": "the man",
        "endings": ["eats [step] it.", "runs  off."],
        "label": "1",
    },
    "piqa": {"goal": "To open a jar, ", "sol1": "twist it", "sol2": "eat it", "label": 0},
    "arc_easy": ARC,
    "arc_challenge": ARC,
    "winogrande": {
        "sentence": "Ann saw Bea because _ was there.",
        "option1": "Ann",
        "option2": "Bea",
        "answer": "2",
    },
}


def documents(tmp_path, name, *rows):
    (tmp_path / name).mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name / "train.jsonl").write_text(lines)
    return list(task_documents(name, "train", folder=tmp_path))


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_row_is_the_standard_prompt_and_its_right_answer(tmp_path, name):
    rendered = EVALUATED.get(name).variants["standard"].render(ROWS[name])
    (document,) = documents(tmp_path, name, ROWS[name])
    gold = rendered.label
    assert document.text == rendered.contexts[gold] + rendered.continuations[gold]
    assert document == (str(0), document.text, 0)


def test_hellaswag_without_an_activity_begins_with_the_context(tmp_path):
    (document,) = documents(tmp_path, "hellaswag", {**ROWS["hellaswag"], "activity_label": ""})
    assert document.text == "How to bake. Mix. Stir. The man runs off."


def test_squad_is_a_document_a_paragraph(tmp_path):
    def row(context, question, *answers):
        table = {"text": list(answers), "answer_start": [0] * len(answers)}
        return {"title": "Two_Towers", "context": context, "question": question, "answers": table}

    found = documents(
        tmp_path, "squad", row("C1.", "Q1?", "a", "b"), row("C2.", "Q2?"), row("C1.", "Q3?", "c")
    )
    assert [document.text for document in found] == [
        "Two Towers\n\nC1.\n\nQuestion: Q1?\nAnswer: a\n\nQuestion: Q3?\nAnswer: c",
        "Two Towers\n\nC2.",
    ]


def test_wikitext_is_a_document_an_article(tmp_path):
    lines = ["", " = One = \n", "", " A @-@ b , c . \n", " = = Part = = \n", " d \n", " = Two = \n"]
    found = documents(tmp_path, "wikitext-2", *({"text": line} for line in lines))
    assert [document.text for document in found] == ["One\n\nA-b, c.\n\nPart\n\nd", "Two"]


def test_both_fillings_of_a_blank_are_protected():
    questions, answers = own_texts("winogrande", ROWS["winogrande"])
    assert questions == ["Ann saw Bea because Ann was there.", "Ann saw Bea because Bea was there."]
    assert answers == []


def test_a_task_without_text_is_named(tmp_path):
    with pytest.raises(UserError, match="did you mean 'piqa'"):
        list(task_documents("piq", "train", folder=tmp_path))
    assert set(ROWS) < set(TASKS)
