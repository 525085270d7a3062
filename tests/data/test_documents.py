"""Documents come in a fixed order with ids of their own, from every kind of file."""

import gzip
import json
import lzma

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.documents import read_documents
from jaxablate.data.text_config import SourceConfig, TextConfig, TokenizerConfig


def files(*paths, **settings):
    return SourceConfig(kind="files", name="shelf", paths=tuple(map(str, paths)), **settings)


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def shelf(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(lines({"text": "five"}))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines({"text": "one"}, {"text": "two"})))
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress(lines({"text": "three"}, {"text": " "})))
    (tmp_path / "d.txt.xz").write_bytes(lzma.compress(b"six\nseven"))
    return tmp_path


def test_files_are_read_in_the_order_of_their_names(shelf):
    told = []
    source = files(shelf / "*.jsonl*", shelf / "d.txt.xz", shelf / "a.*")
    found = list(read_documents(source, lambda *bytes_: told.append(bytes_)))
    assert [(document.id, document.text) for document in found] == [
        ("a:1", "one"),
        ("a:2", "two"),
        ("b:1", "three"),
        ("c:1", "five"),
        ("d", "six\nseven"),
    ]
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == sum(path.stat().st_size for path in shelf.iterdir())


def test_so_many_documents_are_taken(shelf):
    found = read_documents(files(shelf / "*.jsonl*", documents=3))
    assert [document.id for document in found] == ["a:1", "a:2", "b:1"]


def test_a_field_may_name_the_documents(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"body": "x", "name": "first"}, {"body": "y", "name": "second"}))
    source = files(path, field="body", id_field="name")
    assert [document.id for document in read_documents(source)] == ["first", "second"]
    path.write_bytes(lines({"body": "x", "name": "same"}, {"body": "y", "name": "same"}))
    with pytest.raises(UserError, match="two documents have the id 'same'"):
        list(read_documents(source))


def test_half_a_character_becomes_a_question_mark(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x\\ud800y"}\n')
    assert [d.text for d in read_documents(files(tmp_path / "a.jsonl"))] == ["x?y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "x"}\n{"text": 5}\n', "line 2: wanted text in field 'text', got 5"),
        (b'{"txt": "x"}\n', "line 1: wanted text in field 'text', got None"),
        (b'{"text": "x"}\n{"text":\n', "line 2: not readable"),
        (b'{"text": "\xff"}\n', "line 1: not readable"),
        (b"", "'shelf' has no documents"),
    ],
)
def test_a_broken_line_is_named(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(read_documents(files(tmp_path / "a.jsonl")))


@pytest.mark.parametrize("name", ["b.jsonl.xz", "a.jsonl.gz"])
def test_a_cut_off_archive_is_an_error(shelf, name):
    (shelf / name).write_bytes((shelf / name).read_bytes()[:-12])
    with pytest.raises(UserError, match="not readable"):
        list(read_documents(files(shelf / name)))


def test_paths_that_match_nothing_or_no_text_are_errors(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(UserError, match=r"no file matches '.*\*\.txt'"):
        list(read_documents(files(tmp_path / "*.txt")))
    with pytest.raises(UserError, match=r"a\.pdf: wanted a file that ends with"):
        list(read_documents(files(tmp_path / "a.pdf")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "files", "name": "x"}, "needs 'paths'"),
        ({"kind": "task", "name": "piqa"}, "needs 'folder'"),
        ({"kind": "synthetic", "name": "recall"}, "needs 'documents'"),
        ({"kind": "files", "name": "../x", "paths": ("a.txt",)}, "letters, digits"),
        ({"kind": "files", "name": "x", "paths": ("a.txt",), "repeat": 0}, "repeat must be >= 1"),
    ],
)
def test_a_wrong_source_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SourceConfig(**settings)


def test_wrong_texts_and_tokenizers_are_refused():
    with pytest.raises(UserError, match="share a name: shelf"):
        TextConfig(sources=(files("a.txt"), files("b.txt")))
    with pytest.raises(UserError, match="at least one source"):
        TextConfig(sources=(files("a.txt", held_out=True),))
    with pytest.raises(UserError, match="held_out_share must be within"):
        TextConfig(sources=(files("a.txt"),), held_out_share=1.0)
    with pytest.raises(UserError, match="vocab_size >= 300"):
        TokenizerConfig(vocab_size=256)
