"""Rows come in order, with a digest; whatever is wrong with a file is named by file and line."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.data.sources import MADE, SOURCES, choose, licences, load_rows

ROW = {"goal": "Boil water.", "sol1": "Heat it.", "sol2": "Freeze it.", "label": 0}


def piqa(folder, rows, name="validation.jsonl"):
    (folder / "piqa").mkdir(exist_ok=True)
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    path = folder / "piqa" / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def numbered(count):
    return [{**ROW, "goal": f"goal {index}"} for index in range(count)]


def test_plain_and_compressed_files_hold_the_same_rows(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = load_rows("piqa", "validation", folder=piqa(tmp_path / "a", numbered(3)))
    packed = piqa(tmp_path / "b", numbered(3), "validation.jsonl.gz")
    assert load_rows("piqa", "validation", folder=packed).rows == plain.rows
    assert load_rows("piqa", "validation", folder=packed).digest == plain.digest
    assert [row["goal"] for row in plain.rows] == ["goal 0", "goal 1", "goal 2"]


@pytest.mark.parametrize("name", ["validation.json", "validation.parquet"])
def test_json_and_parquet_files_are_read_through_datasets(tmp_path, name, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "piqa").mkdir()
    table = datasets.Dataset.from_list(numbered(3))
    getattr(table, "to_json" if name.endswith("json") else "to_parquet")(tmp_path / "piqa" / name)
    assert load_rows("piqa", "validation", folder=tmp_path).rows == tuple(numbered(3))


def test_the_digest_sees_content_and_order_but_not_unread_fields(tmp_path):
    tables = [
        numbered(2),
        numbered(2)[::-1],
        [{**row, "note": "x"} for row in numbered(2)],
        [{**row, "label": 1} for row in numbered(2)],
    ]
    digests = [
        load_rows("piqa", "test", folder=piqa(tmp_path, rows, "test.jsonl")).digest
        for rows in tables
    ]
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3


def test_limit_takes_the_head_or_a_seeded_choice_in_order(tmp_path):
    piqa(tmp_path, numbered(50))
    head = load_rows("piqa", "validation", folder=tmp_path, limit=5)
    assert head.indices == (0, 1, 2, 3, 4)
    assert head.total == 50
    chosen = load_rows("piqa", "validation", folder=tmp_path, limit=5, subset="random", seed=3)
    assert chosen.indices != head.indices
    assert [row["goal"] for row in chosen.rows] == [f"goal {index}" for index in chosen.indices]
    assert chosen.digest == head.digest


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 5))
def test_a_random_subset_is_sorted_distinct_and_grows(total, limit, seed):
    small = choose(total, limit=limit, subset="random", seed=seed)
    assert list(small) == sorted(set(small))
    assert len(small) == (min(limit, total) or total)
    if limit:
        assert set(small) <= set(choose(total, limit=limit + 3, subset="random", seed=seed))


def test_the_random_choice_never_changes():
    assert choose(10, limit=4, subset="random", seed=0) == (3, 4, 7, 9)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, {"goal": "x"}], "line 2: field 'sol1' is missing; found: goal"),
        ([ROW, {**ROW, "sol1": 3}], "line 2: field 'sol1' must be text, got 3"),
        ([ROW, {**ROW, "label": True}], "line 2: field 'label' must be"),
        ([ROW, "{broken\n"], "line 2: not readable"),
        ([ROW, "[1, 2]\n"], "line 2: wanted a table, got list"),
        (["\n", ROW, {"goal": 1}], "line 3: field 'goal'"),
        ([], "has no rows"),
        (["\x00\n"], "line 1: not readable"),
        (["<html>not found</html>\n"], "line 1: not readable"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, rows, message):
    with pytest.raises(UserError) as caught:
        load_rows("piqa", "validation", folder=piqa(tmp_path, rows))
    assert message in str(caught.value)


def test_a_cut_or_fake_archive_is_a_user_error(tmp_path):
    path = piqa(tmp_path, numbered(200), "validation.jsonl.gz") / "piqa" / "validation.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"validation\.jsonl\.gz: after"):
        load_rows("piqa", "validation", folder=tmp_path)
    path.write_bytes(b"not gzip at all")
    with pytest.raises(UserError, match=r"validation\.jsonl\.gz: after 0"):
        load_rows("piqa", "validation", folder=tmp_path)
    path.write_bytes(gzip.compress(b"\xff\xfe\xfa\n"))
    with pytest.raises(UserError, match=r"validation\.jsonl\.gz"):
        load_rows("piqa", "validation", folder=tmp_path)


def test_a_missing_split_lists_what_is_there(tmp_path):
    piqa(tmp_path, [ROW], "test.jsonl")
    with pytest.raises(UserError, match=r"no 'validation' split.*found: test\.jsonl"):
        load_rows("piqa", "validation", folder=tmp_path)
    with pytest.raises(UserError, match="no such data folder"):
        load_rows("piqa", "validation", folder=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": -1}, "limit must be >= 0"),
        ({"subset": "tail"}, "unknown subset 'tail'"),
    ],
)
def test_bad_subset_settings_are_user_errors(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        load_rows("piqa", "validation", folder=piqa(tmp_path, [ROW]), **settings)


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'hellaswag'"):
        load_rows("helaswag", "validation")


def test_no_network_is_a_user_error_that_points_to_local_files(monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")

    def refuse(*args, **settings):
        assert "trust_remote_code" not in settings
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"offline.*give a data folder"):
        load_rows("piqa", "validation")


def test_every_source_has_a_licence_and_a_home():
    assert [entry["data set"] for entry in licences()] == list(SOURCES)
    for entry in licences():
        assert entry["licence"]
        own = entry["hub"] == MADE
        assert (entry["home"] == "jaxablate") if own else entry["home"].startswith("https://")
