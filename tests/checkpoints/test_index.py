import os

import pytest

from jaxablate.checkpoints.index import find_weights, weight_files
from jaxablate.core.errors import UserError
from tests.badinput.index_files import CASES, INDEX, SHARDS, make_good
from tests.badinput.safetensors_files import entry, pack


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_wrong_index_is_refused_and_named(tmp_path, case):
    make_good(tmp_path)
    case.make(tmp_path)
    with pytest.raises(UserError) as error:
        find_weights(tmp_path)
    message = str(error.value)
    assert all(word in message for word in case.words), message
    assert "\n" not in message
    assert len(message) < 600 + len(str(tmp_path))


def test_the_corpus_is_large_enough():
    assert len(CASES) >= 16


def test_all_tensors_of_all_shards_are_found(tmp_path):
    make_good(tmp_path)
    found = find_weights(tmp_path)
    assert {name: tensor.file.name for name, tensor in found.items()} == {
        "a": SHARDS[0],
        "b": SHARDS[0],
        "c": SHARDS[1],
        "d": SHARDS[1],
    }
    assert [file.name for file in weight_files(tmp_path)] == list(SHARDS)


def test_a_single_file_needs_no_index(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(pack({"w": entry()}))
    assert find_weights(tmp_path).keys() == {"w"}
    assert [file.name for file in weight_files(tmp_path)] == ["model.safetensors"]


def test_mistrals_consolidated_copy_beside_the_weights_is_left_alone(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(pack({"w": entry()}))
    (tmp_path / "consolidated.safetensors").write_bytes(b"not read")
    assert find_weights(tmp_path).keys() == {"w"}


def test_an_index_is_a_file_and_not_a_fifo(tmp_path):
    make_good(tmp_path)
    (tmp_path / INDEX).unlink()
    os.mkfifo(tmp_path / INDEX)
    with pytest.raises(UserError, match="is a fifo"):
        find_weights(tmp_path)
