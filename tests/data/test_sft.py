"""Records become examples by a fixed format; what is dropped or cut is counted with a reason."""

import gzip
import json

import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.records import Record
from jaxablate.data.sft import encode, plain_headings
from jaxablate.data.splits import hold_out, load_splits, read_records
from jaxablate.data.tokenizer import Tokenizer
from tests.data.tokens import save

WITH_INPUT = Record("train:0", "Translate.", "the cat", "le chat")
WITHOUT = Record("train:1", "Name a woman.", "", "Sarah")


def write(folder, split, rows, name="alpaca"):
    (folder / name).mkdir(exist_ok=True)
    path = folder / name / f"{split}.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def numbered(count):
    return [{"instruction": f"i{n}", "input": "", "output": f"o{n}"} for n in range(count)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.load(save(tmp_path_factory.mktemp("tokenizer")))


def test_plain_headings_with_and_without_an_input():
    assert plain_headings(WITH_INPUT) == (
        "### Instruction:\nTranslate.\n\n### Input:\nthe cat\n\n### Response:\n"
    )
    assert plain_headings(WITHOUT) == "### Instruction:\nName a woman.\n\n### Response:\n"


def test_an_example_is_prompt_response_and_eos_by_id_without_bos(tokenizer):
    (example,) = encode([WITH_INPUT], tokenizer, max_length=200).examples
    before = tokenizer.encode(plain_headings(WITH_INPUT))
    assert example.tokens.tolist() == [*before, *tokenizer.encode("le chat"), tokenizer.eos_id]
    assert example.prompt_length == len(before)
    assert tokenizer.bos_id not in example.tokens


def test_bos_can_be_asked_for_and_belongs_to_the_prompt(tokenizer):
    (bare,) = encode([WITHOUT], tokenizer, max_length=200).examples
    (example,) = encode([WITHOUT], tokenizer, max_length=200, add_bos=True).examples
    assert example.tokens.tolist() == [tokenizer.bos_id, *bare.tokens]
    assert example.prompt_length == bare.prompt_length + 1


def test_truncation_takes_from_the_right_and_is_counted(tokenizer):
    (whole,) = encode([WITH_INPUT], tokenizer, max_length=200).examples
    exact = encode([WITH_INPUT], tokenizer, max_length=len(whole.tokens))
    assert exact.truncated == ()
    cut = encode([WITH_INPUT], tokenizer, max_length=len(whole.tokens) - 1)
    np.testing.assert_array_equal(cut.examples[0].tokens, whole.tokens[:-1])
    assert cut.truncated == ("train:0",)


def test_an_example_without_a_supervised_token_is_dropped_with_its_reason(tokenizer):
    long = Record("train:2", "cat " * 300, "", "yes")
    encoded = encode([WITHOUT, long], tokenizer, max_length=64)
    assert [example.id for example in encoded.examples] == ["train:1"]
    assert encoded.to_json()["dropped"] == {"prompt fills all 64 tokens": 1}
    with pytest.raises(UserError, match="no example is left of 1 records: prompt fills all 64"):
        encode([long], tokenizer, max_length=64)


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    bare = Tokenizer.load(save(tmp_path / "bare", eos_token=None))
    with pytest.raises(UserError, match="needs an EOS token"):
        encode([WITHOUT], bare, max_length=64)


def test_unusable_rows_are_dropped_and_counted_by_reason(tmp_path):
    rows = [
        {"instruction": "  Add. ", "input": None, "output": " 5\n"},
        {"instruction": "", "input": "", "output": "x"},
        {"instruction": "x", "input": "", "output": "  "},
        {"instruction": "x", "input": ""},
        {"instruction": "x", "input": "", "output": 5},
        {"instruction": "x", "input": ["y"], "output": "z"},
        ["x"],
        {"instruction": "x", "output": "y"},
    ]
    records = read_records(write(tmp_path, "train", rows), "train")
    assert records.rows == (
        Record("train:0", "Add.", "", "5"),
        Record("train:7", "x", "", "y"),
    )
    assert records.dropped == {
        "empty instruction": 1,
        "empty output": 1,
        "no field 'output'": 1,
        "output is not text": 1,
        "input is not text": 1,
        "not a table": 1,
    }


def test_a_file_without_a_needed_field_is_an_error_that_names_it(tmp_path):
    path = write(tmp_path, "train", [{"instruction": "x", "response": "y"}])
    with pytest.raises(UserError, match=r"no row has a field 'output' .* found: instruction, resp"):
        read_records(path, "train")
    path = write(tmp_path, "train", [{"instruction": "", "output": "y"}])
    with pytest.raises(UserError, match=r"no usable record; dropped: empty instruction \(1\)"):
        read_records(path, "train")


def test_evaluation_takes_validation_then_test_then_two_percent_of_train(tmp_path):
    write(tmp_path, "train", numbered(101))
    train, held_out = load_splits(tmp_path, "alpaca", seed=7)
    assert (len(train.rows), len(held_out.rows)) == (98, 3)
    assert not {r.id for r in train.rows} & {r.id for r in held_out.rows}
    assert load_splits(tmp_path, "alpaca", seed=8)[1] != held_out
    write(tmp_path, "test", numbered(4))
    train, held_out = load_splits(tmp_path, "alpaca", seed=7)
    assert len(train.rows) == 101
    assert [record.id for record in held_out.rows] == [f"test:{n}" for n in range(4)]
    write(tmp_path, "validation", numbered(5))
    assert load_splits(tmp_path, "alpaca", seed=7)[1].rows[0].id == "validation:0"


def test_subsets_are_seeded_nested_and_their_ids_recorded(tmp_path):
    write(tmp_path, "train", numbered(200))
    few, _ = load_splits(tmp_path, "alpaca", seed=3, train_limit=20, eval_limit=2)
    more, held_out = load_splits(tmp_path, "alpaca", seed=3, train_limit=40, eval_limit=2)
    assert set(few.rows) < set(more.rows)
    assert len(held_out.rows) == 2
    assert few == load_splits(tmp_path, "alpaca", seed=3, train_limit=20, eval_limit=2)[0]
    assert few.rows != load_splits(tmp_path, "alpaca", seed=4, train_limit=20)[0].rows
    kept = json.loads(json.dumps(few.to_json()))
    assert (kept["records"], kept["found"]) == (20, 196)
    for name in ("ids", "digest"):
        assert kept[name] != more.to_json()[name]


def test_one_record_cannot_be_split(tmp_path):
    records = read_records(write(tmp_path, "train", numbered(1)), "train")
    with pytest.raises(UserError, match="1 records cannot be split"):
        hold_out(records, seed=0)
