import json

import pytest

from jaxablate.checkpoints.manifest import (
    NAME,
    digest_files,
    read_manifest,
    verify_files,
    write_manifest,
)
from jaxablate.core.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"alpha")
    (tmp_path / "deep" / "er" / "b").write_bytes(b"beta")
    write_manifest(tmp_path, {"source": {"path": "somewhere"}})
    return tmp_path


def test_an_untouched_folder_passes(folder):
    record = read_manifest(folder)
    assert record["source"] == {"path": "somewhere"}
    assert sorted(record["files"]) == ["a", "deep/er/b"]
    verify_files(folder, record)


def test_every_single_bit_of_the_manifest_matters(folder):
    path = folder / NAME
    good = path.read_bytes()
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            path.write_bytes(bad)
            with pytest.raises(UserError) as error:
                read_manifest(folder)
            assert NAME in str(error.value)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def _extend(path):
    path.write_bytes(path.read_bytes() + b"x")


def _flip(path):
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _link(path):
    path.rename(path.parent / "moved")
    path.symlink_to(path.parent / "moved")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_truncate, "was written with"),
        (_extend, "was written with"),
        (_flip, "content differs"),
        (lambda path: path.write_bytes(b""), "was written with"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.with_name("new").write_bytes(b""), "does not belong"),
        (lambda path: path.with_name("new").symlink_to(path.parent), "does not belong"),
        (_link, "does not belong"),
    ],
    ids=["truncated", "longer", "changed", "emptied", "deleted", "added", "link added", "moved"],
)
def test_a_changed_folder_is_refused_and_the_file_named(folder, spoil, words):
    path = folder / "deep" / "er" / "b"
    spoil(path)
    with pytest.raises(UserError, match=words) as error:
        verify_files(folder, read_manifest(folder))
    assert str(path.parent) in str(error.value)


def test_two_files_exchanged_are_noticed(folder):
    (folder / "a").write_bytes(b"12345")
    write_manifest(folder, {})
    record = read_manifest(folder)
    (folder / "deep" / "er" / "b").write_bytes(b"beta")
    (folder / "a").write_bytes(b"54321")
    with pytest.raises(UserError, match="content differs"):
        verify_files(folder, record)


def test_a_newer_version_is_refused_with_what_to_do(folder):
    import jaxablate.checkpoints.manifest as manifest

    record = read_manifest(folder)
    (folder / NAME).write_text(manifest._canonical({**record, "version": 99}))
    with pytest.raises(UserError, match="version 99, wanted 1; convert"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"record": {}}', '{"record": {"format": "x"}}'])
def test_another_file_of_that_name_is_not_a_manifest(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UserError, match=NAME):
        read_manifest(tmp_path)


def test_the_digest_of_files_depends_on_names_and_content():
    one = {"a": {"sha256": "1"}, "b": {"sha256": "2"}}
    swapped = {"a": {"sha256": "2"}, "b": {"sha256": "1"}}
    assert digest_files(one) != digest_files(swapped)
    assert digest_files(one) == digest_files(dict(reversed(one.items())))


def test_the_manifest_is_plain_json(folder):
    assert set(json.loads((folder / NAME).read_text())) == {"record", "sha256"}
