"""Rows become records: conversations learn their last answer, everything else has a reason."""

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.records import Message, Record, read_rows
from jaxablate.data.sft import plain


def turns(*pairs):
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": roles.get(r, r), "content": text} for r, text in pairs]}


def read(*rows):
    return read_rows(rows, "train", where="here", origin="chat/train.jsonl")


def test_the_last_answer_is_learned_and_all_before_it_is_the_prompt():
    (record,) = read(
        turns(("s", " Be brief. "), ("u", "Hi"), ("a", "Hello."), ("u", "Sum?"), ("a", "\n5 "))
    ).rows
    earlier = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello."),
    )
    assert record == Record("train:0", "Sum?", "", "5", earlier)


def test_turns_after_the_last_answer_are_cut_and_counted():
    asked = read(turns(("u", "a"), ("a", "b"), ("u", "c")), turns(("u", "d"), ("a", "e")))
    assert [(r.instruction, r.output) for r in asked.rows] == [("a", "b"), ("d", "e")]
    assert asked.to_json()["cut_after_last_answer"] == 1


def test_conversations_that_cannot_be_learned_are_dropped_with_their_reason():
    records = read(
        turns(("u", "kept"), ("a", "yes")),
        turns(("u", "only a question")),
        turns(("u", "x"), ("tool", "y"), ("a", "z")),
        turns(("a", "nobody asked")),
        turns(("s", "be brief"), ("a", "hello")),
        turns(("u", "x"), ("a", "y"), ("a", "z")),
        turns(("u", "x"), ("a", "  ")),
        turns(("u", ["a part"]), ("a", "y")),
        turns(),
        {"messages": "text"},
        {"messages": ["text"]},
        {"other": 1},
        "text",
    )
    assert records.ids == ["train:0"]
    assert records.dropped == {
        "no assistant turn": 2,
        "role 'tool'": 1,
        "the last answer follows no user turn": 3,
        "empty content of assistant": 1,
        "content of user is not text": 1,
        "messages is not a list of turns": 4,
    }
    with pytest.raises(UserError, match=r"no usable record; dropped: no assistant turn \(1\)"):
        read(turns(("u", "x")))


def test_instruction_and_output_win_over_messages():
    row = {"instruction": "a", "output": "b", **turns(("u", "c"), ("a", "d"))}
    assert read(row).rows == (Record("train:0", "a", "", "b"),)


def test_one_turn_has_plain_headings_and_several_are_refused():
    (record,) = read(turns(("u", "Add."), ("a", "5"))).rows
    assert plain(record) == ("### Instruction:\nAdd.\n\n### Response:\n", "5")
    (record,) = read(turns(("s", "Be brief."), ("u", "Add."), ("a", "5"))).rows
    with pytest.raises(UserError, match=r"train:0 is a conversation .* use format 'chat'"):
        plain(record)


def test_earlier_turns_change_the_digest():
    bare, told = (
        read(turns(*more, ("u", "Add."), ("a", "5"))).to_json() for more in ([], [("s", "x")])
    )
    assert bare["ids"] == told["ids"]
    assert bare["digest"] != told["digest"]
