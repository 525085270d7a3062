import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from jaxablate.checkpoints import open_checkpoint, store
from jaxablate.checkpoints.hf import load_hf
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh
from jaxablate.models.layout import weights
from tests.checkpoints.tiny import config_json, random_tensors, write_folder

SOURCE = {"format": "huggingface", "path": "somewhere", "revision": "5" * 40}


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    hf_config = config_json(
        "qwen3", sliding_window=64, use_sliding_window=True, max_window_layers=1
    )
    folder = tmp_path_factory.mktemp("origin")
    (folder / "tokenizer.json").write_text("{}")
    return write_folder(folder, hf_config, random_tensors(hf_config))


@pytest.fixture(scope="module")
def pristine(origin, tmp_path_factory):
    """A stored checkpoint, only ever read."""
    folder = tmp_path_factory.mktemp("stored") / "model"
    store.save(*load_hf(origin, dtype="bfloat16"), folder, source=SOURCE)
    return folder


@pytest.fixture
def stored(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "model")


def _assert_equal(left, right):
    left, right = weights(left), weights(right)
    assert left.keys() == right.keys()
    for path, array in left.items():
        assert array.dtype == right[path].dtype
        assert np.asarray(array).tobytes() == np.asarray(right[path]).tobytes(), path


@pytest.mark.parametrize("layout", ["loop", "scan"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_is_stored_comes_back_bit_for_bit(origin, tmp_path, dtype, layout):
    decoder, config = load_hf(origin, dtype=dtype, layout=layout)
    store.save(decoder, config, tmp_path / "model", source=SOURCE)
    again, config_again = store.load(tmp_path / "model")
    assert config_again == config
    assert config_again.source == config.source
    assert again.layout == layout
    _assert_equal(decoder, again)


@pytest.mark.parametrize("mesh", ["fsdp=8", "data=2,fsdp=2,tensor=2"])
def test_it_comes_back_on_any_mesh(origin, pristine, mesh):
    mesh = make_mesh(parse_mesh(mesh))
    wanted = load_hf(origin, dtype="bfloat16", mesh=mesh)[0]
    found = store.load(pristine, mesh=mesh)[0]
    _assert_equal(wanted, found)
    for path, array in weights(wanted).items():
        assert weights(found)[path].sharding == array.sharding


def test_weights_split_over_a_mesh_are_stored_whole(origin, pristine, tmp_path):
    mesh = make_mesh(parse_mesh("fsdp=4,tensor=2"))
    store.save(*load_hf(origin, dtype="bfloat16", mesh=mesh), tmp_path / "split", source=SOURCE)
    _assert_equal(store.load(tmp_path / "split")[0], store.load(pristine)[0])


@pytest.mark.parametrize("layout", ["loop", "scan"])
def test_it_comes_back_in_any_layout_and_type(origin, pristine, layout):
    found, _ = store.load(pristine, dtype="float32", layout=layout)
    _assert_equal(load_hf(origin, dtype="float32", layout=layout)[0], found)


def test_narrowing_rounds_to_nearest_even(origin, tmp_path):
    decoder, config = load_hf(origin, dtype="float32")
    exact = decoder.embedding.weight[...] * 1.2345678
    decoder.embedding.weight[...] = exact
    store.save(decoder, config, tmp_path / "model", source=SOURCE)
    found = store.load(tmp_path / "model", dtype="bfloat16")[0]
    assert np.array_equal(found.embedding.weight[...], np.asarray(exact).astype("bfloat16"))


def test_the_record_says_what_the_weights_are_and_where_they_come_from(pristine):
    _, config, source = store.open_stored(pristine)
    record = json.loads((pristine / "manifest.json").read_text())["record"]
    assert source["converted_from"] == SOURCE
    assert source["revision"] == SOURCE["revision"]
    assert record["family"] == config.family == "qwen3"
    assert record["arrays"]["layers/0/mlp/up/weight"]["shape"] == [48, 32]
    assert record["arrays"]["layers/0/mlp/up/weight"]["dtype"] == "bfloat16"
    assert len(record["arrays"]["layers/0/mlp/up/weight"]["sha256"]) == 64
    assert config.windows == (None, 64)
    json.dumps(source)


def test_one_opener_knows_both_kinds_of_folder(origin, tmp_path):
    decoder, config, source = open_checkpoint(origin, dtype="bfloat16")
    store.save(decoder, config, tmp_path / "model", source=source, tokenizer_files_from=origin)
    again, config_again, source_again = open_checkpoint(tmp_path / "model", dtype="bfloat16")
    assert config_again == config
    _assert_equal(decoder, again)
    assert source_again["converted_from"]["weights"] == source["weights"]
    assert (tmp_path / "model" / "tokenizer.json").read_text() == "{}"


def test_the_digest_of_the_weights_changes_with_one_bit_of_them(origin, tmp_path):
    before = open_checkpoint(origin, dtype="bfloat16")[2]["weights"]
    assert open_checkpoint(origin, dtype="float32", layout="scan")[2]["weights"] == before
    copy = shutil.copytree(origin, tmp_path / "copy")
    raw = bytearray((copy / "model.safetensors").read_bytes())
    raw[-2] ^= 1
    (copy / "model.safetensors").write_bytes(raw)
    assert open_checkpoint(copy, dtype="bfloat16")[2]["weights"] != before


def test_any_flipped_bit_is_found_and_the_file_named(stored):
    random = np.random.default_rng(20)
    files = sorted(path for path in stored.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = np.array([path.stat().st_size for path in files], float)
    by_size = random.choice(len(files), 30, p=sizes / sizes.sum())
    evenly = random.permutation(np.arange(30) % len(files))
    injected = 0
    for number in (*by_size, *evenly):
        path = files[number]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[random.integers(len(good))] ^= 1 << random.integers(8)
        path.write_bytes(bad)
        injected += 1
        with pytest.raises(UserError) as error:
            store.load(stored)
        assert str(path) in str(error.value)
        path.write_bytes(good)
    assert injected == 60
    assert set(by_size) | set(evenly) == set(range(len(files)))
    store.load(stored)


@pytest.mark.parametrize("damage", ["halved", "emptied", "zeroed", "deleted", "longer"])
def test_every_damaged_file_is_found_and_named(stored, damage):
    files = [path for path in stored.rglob("*") if path.is_file()]
    injected = 0
    for path in files:
        good = path.read_bytes()
        half, zeros = good[: len(good) // 2], bytes(len(good))
        kinds = {"halved": half, "emptied": b"", "zeroed": zeros, "longer": good + b"\n"}
        if kinds.get(damage) == good:  # a marker file that is empty already
            continue
        injected += 1
        if damage == "deleted":
            path.unlink()
        else:
            path.write_bytes(kinds[damage])
        with pytest.raises(UserError, match=path.name):
            store.load(stored)
        path.write_bytes(good)
    assert injected >= len(files) - 2 > 5


def test_files_of_another_checkpoint_are_found(stored, origin, tmp_path):
    decoder, config = load_hf(origin, dtype="bfloat16")
    decoder.final_norm.weight[...] = decoder.final_norm.weight[...] * 2
    store.save(decoder, config, tmp_path / "other", source=SOURCE)
    shutil.rmtree(stored / "weights")
    shutil.copytree(tmp_path / "other" / "weights", stored / "weights")
    with pytest.raises(UserError, match="weights"):
        store.load(stored)


def test_a_foreign_file_is_found(stored):
    (stored / "weights" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"notes\.txt: file does not belong"):
        store.load(stored)


def test_a_full_folder_is_refused_and_kept(origin, stored):
    before = sorted(stored.rglob("*"))
    with pytest.raises(UserError, match="not empty"):
        store.save(*load_hf(origin, dtype="bfloat16"), stored, source=SOURCE)
    assert sorted(stored.rglob("*")) == before
    store.load(stored)


def test_a_hugging_face_folder_is_not_a_stored_one(origin):
    with pytest.raises(UserError, match=r"manifest\.json: no such file"):
        store.load(origin)


_CHILD = textwrap.dedent(
    """
    import os, sys
    from jaxablate.checkpoints import store
    from jaxablate.checkpoints.hf import load_hf

    origin, target, event, word = sys.argv[1:]
    loaded = load_hf(origin, dtype="bfloat16")

    def hook(name, arguments):
        if name == event and word in str(arguments):
            os.write(1, b"reached")
            os.kill(os.getpid(), 9)

    sys.addaudithook(hook)
    store.save(*loaded, target, source={})
    """
)


@pytest.mark.parametrize(
    ("event", "word"),
    [("os.mkdir", "weights"), ("tempfile.mkstemp", "manifest.json"), ("os.rename", "model'")],
    ids=["while arrays are written", "before the manifest", "before the rename"],
)
def test_a_killed_conversion_leaves_no_folder_and_can_be_repeated(origin, tmp_path, event, word):
    target = tmp_path / "model"
    child = [sys.executable, "-c", _CHILD, str(origin), str(target), event, word]
    done = subprocess.run(child, capture_output=True, timeout=120)
    assert done.stdout == b"reached", done.stderr
    assert done.returncode == -9
    assert not target.exists()
    with pytest.raises(UserError, match="no such folder"):
        store.load(target)
    left = list(tmp_path.iterdir())
    assert all(path.name.startswith(".model.partial-") for path in left)
    store.save(*load_hf(origin, dtype="bfloat16"), target, source=SOURCE)
    store.load(target)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
