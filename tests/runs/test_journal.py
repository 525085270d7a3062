"""A journal gives back what was appended; torn ends are cut, damage before them is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.runs.journal import Journal, line, parse, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ENTRIES = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), min_size=1, max_size=4)
THREE = [{"batch": 0, "scores": [-1.5, 0.1]}, {"batch": 1, "text": "né\n日"}, {"batch": 2}]


def written(path, entries):
    with Journal(path) as journal:
        for entry in entries:
            journal.append(entry)
    return path


@given(ENTRIES)
def test_what_is_appended_comes_back(entries):
    raw = b"".join(map(line, entries))
    assert parse(raw, "here") == (entries, len(raw))


def test_a_second_opening_continues(tmp_path):
    path = written(tmp_path / "journal.jsonl", THREE[:1])
    written(path, THREE[1:])
    assert read(path) == THREE


@settings(max_examples=30)
@given(st.data())
def test_a_cut_at_any_byte_loses_only_the_line_it_is_in(data):
    raw = b"".join(map(line, THREE))
    cut = data.draw(st.integers(0, len(raw)))
    entries, good = parse(raw[:cut], "here")
    whole = raw[:cut].count(b"\n")
    assert entries == THREE[:whole]
    assert raw[:good].count(b"\n") == whole


def test_a_torn_last_line_is_cut_from_the_file_and_work_goes_on(tmp_path):
    path = written(tmp_path / "journal.jsonl", THREE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with Journal(path) as journal:
        assert journal.entries == THREE[:2]
        assert journal.cut_bytes > 0
        journal.append(THREE[2])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("last", [b"{}\n", b"\x00\x00\x00\x00\n", b"not json\n"])
def test_a_last_line_that_is_whole_but_wrong_is_cut_too(tmp_path, last):
    path = written(tmp_path / "journal.jsonl", THREE)
    path.write_bytes(path.read_bytes() + last)
    with Journal(path) as journal:
        assert journal.entries == THREE


@given(st.data())
def test_any_flipped_bit_before_the_last_line_is_refused(data):
    lines = list(map(line, THREE))
    raw = bytearray(b"".join(lines))
    # Without the second newline two lines become a torn last one, whose work is done again.
    at = data.draw(st.integers(0, len(lines[0]) + len(lines[1]) - 2))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(UserError, match=r"here: line \d is damaged"):
        parse(bytes(raw), "here")


def test_a_refused_journal_is_left_as_it_was(tmp_path):
    path = written(tmp_path / "journal.jsonl", THREE)
    damaged = path.read_bytes().replace(b"-1.5", b"-2.5")
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"journal\.jsonl: line 1 is damaged"):
        Journal(path)
    assert path.read_bytes() == damaged


def test_not_a_number_is_never_written(tmp_path):
    with Journal(tmp_path / "j") as journal, pytest.raises(ValueError, match="not JSON compliant"):
        journal.append({"score": float("nan")})
    assert read(tmp_path / "j") == []


def test_a_missing_journal_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none")
