import threading
import time

import pytest

from jaxablate.checkpoints import open_checkpoint
from jaxablate.core.errors import UserError
from tests.badinput.hf_folders import SHARDED_CASES, SINGLE_CASES, make_good


def _snapshot(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def _refuse(tmp_path, case, shards):
    folder = tmp_path / "model"
    make_good(folder, shards=shards)
    case.make(folder)
    before = _snapshot(tmp_path)
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        open_checkpoint(folder, dtype="bfloat16")
    message = str(error.value)
    assert all(word in message for word in case.words), message
    assert "\n" not in message
    assert time.monotonic() - started < 5
    assert _snapshot(tmp_path) == before
    assert threading.active_count() < 50


@pytest.mark.parametrize("case", SINGLE_CASES, ids=lambda case: case.id)
def test_a_wrong_folder_is_refused_in_one_sentence(tmp_path, case):
    _refuse(tmp_path, case, 1)


@pytest.mark.parametrize("case", SHARDED_CASES, ids=lambda case: case.id)
def test_a_wrong_sharded_folder_is_refused_in_one_sentence(tmp_path, case):
    _refuse(tmp_path, case, 3)


@pytest.mark.parametrize("shards", [1, 3])
def test_the_folder_that_is_spoilt_was_good(tmp_path, shards):
    make_good(tmp_path / "model", shards=shards)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) >= shards
    open_checkpoint(tmp_path / "model", dtype="bfloat16")


def test_the_corpus_is_large_enough():
    assert len(SINGLE_CASES) + len(SHARDED_CASES) >= 24 + 8
