"""Metrics come back as they were written; a resumed run's file equals an uninterrupted one's."""

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.runs.metrics import MetricsLog, line, parse, read_lines

THREE = [
    {"step": 10, "kind": "train", "loss": 2.25, "tokens": 4096},
    {"step": 20, "kind": "eval", "mask": "prefix_lm | causal", "loss": 1.0 / 3, "leaky": False},
    {"step": 20, "kind": "train", "note": "né\n日"},
]


def written(path, entries, position=None):
    with MetricsLog(path, position) as log:
        for entry in entries:
            log.append(entry)
    return path


VALUES = st.integers() | st.floats() | st.booleans() | st.none() | st.text()
SPELLED = {"NaN", "Infinity", "-Infinity"}
ENTRY = st.dictionaries(st.text(), VALUES.filter(lambda v: v not in SPELLED), max_size=4)


@given(st.lists(ENTRY, max_size=4))
def test_what_is_appended_comes_back(entries):
    raw = b"".join(map(line, entries))
    got, size = parse(raw, "here")
    assert repr(got) == repr(entries)  # repr: NaN is not equal to itself
    assert size == len(raw)


def test_lines_are_plain_json_that_others_can_read(tmp_path):
    path = written(tmp_path / "metrics.jsonl", THREE)
    assert [json.loads(text) for text in path.read_text("utf-8").splitlines()] == THREE


def test_a_loss_that_is_no_number_stays_json(tmp_path):
    entry = {"loss": math.nan, "evals": [math.inf, {"a": -math.inf}]}
    path = written(tmp_path / "m", [entry])

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(path.read_text(), parse_constant=refuse)["loss"] == "NaN"
    (got,) = read_lines(path)
    assert math.isnan(got["loss"])
    assert got["evals"] == [math.inf, {"a": -math.inf}]


def test_a_second_opening_continues(tmp_path):
    path = written(tmp_path / "m", THREE[:1])
    with MetricsLog(path) as log:
        assert log.position == 1
        log.append(THREE[1])
        assert log.position == 2
    assert read_lines(path) == THREE[:2]


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_a_resumed_run_repeats_what_came_after_its_checkpoint(tmp_path, position):
    path = written(tmp_path / "m", THREE)
    whole = path.read_bytes()
    written(path, THREE[position:], position)
    assert path.read_bytes() == whole


def test_damage_after_the_checkpoint_does_not_matter(tmp_path):
    path = written(tmp_path / "m", THREE)
    whole = path.read_bytes()
    path.write_bytes(b"".join(map(line, THREE[:1])) + b"garbage\n\0\0\0\nmore garbage")
    written(path, THREE[1:], 1)
    assert path.read_bytes() == whole


def test_lines_that_the_checkpoint_counted_must_be_there(tmp_path):
    path = written(tmp_path / "m", THREE[:1])
    with pytest.raises(UserError, match="m: 2 lines were written before, only 1 of them are there"):
        MetricsLog(path, 2)
    assert read_lines(path) == THREE[:1]


@settings(max_examples=40)
@given(st.data())
def test_a_cut_at_any_byte_loses_only_the_line_it_is_in(data):
    raw = b"".join(map(line, THREE))
    cut = data.draw(st.integers(0, len(raw)))
    entries, size = parse(raw[:cut], "here")
    assert entries == THREE[: raw[:cut].count(b"\n")]
    assert raw[:size] == b"".join(map(line, entries))


@pytest.mark.parametrize("torn", [b'{"step":', b"\0\0\0\n", b"[1]\n"])
def test_a_torn_last_line_is_cut_and_the_run_goes_on(tmp_path, torn):
    path = written(tmp_path / "m", THREE[:2])
    path.write_bytes(path.read_bytes() + torn)
    assert read_lines(path) == THREE[:2]
    written(path, THREE[2:])
    assert read_lines(path) == THREE


def test_a_damaged_line_in_the_middle_is_refused_and_left(tmp_path):
    path = written(tmp_path / "m", THREE)
    damaged = path.read_bytes().replace(b'"step":20', b'"step":2x', 1)
    path.write_bytes(damaged)
    for reading in (read_lines, MetricsLog):
        with pytest.raises(UserError, match="m: line 2 is damaged and it is not the last"):
            reading(path)
    assert path.read_bytes() == damaged


def test_an_entry_is_there_for_others_before_the_file_is_closed(tmp_path):
    with MetricsLog(tmp_path / "m") as log:
        log.append(THREE[0])
        assert read_lines(tmp_path / "m") == THREE[:1]


class Full:
    """A file on a disk that has room for five more bytes."""

    def __init__(self, file):
        self.file, self.room = file, 5

    def write(self, raw):
        if not self.room:
            raise OSError(28, "No space left on device")
        done, self.room = self.file.write(raw[: self.room]), 0
        return done

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_leaves_no_half_line(tmp_path):
    log = MetricsLog(tmp_path / "m")
    log.append(THREE[0])
    log._file = Full(log._file)
    with pytest.raises(OSError, match="No space"):
        log.append(THREE[1])
    log.close()
    assert (tmp_path / "m").read_bytes() == line(THREE[0])
    assert log.position == 1


def test_sync_and_close_reach_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log = MetricsLog(tmp_path / "m")
    before = len(synced)
    log.sync()
    assert len(synced) == before + 1
    log.close()
    log.close()
    assert len(synced) == before + 2


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_lines(tmp_path / "none")
