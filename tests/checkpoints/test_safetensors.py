import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxablate.checkpoints.content import check_file
from jaxablate.checkpoints.safetensors import DTYPES, parse_header, read_header, write_file
from jaxablate.core.errors import UserError
from tests.badinput.safetensors_files import ACCEPTED, CASES, entry, pack


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_malformed_file_is_refused_in_one_sentence_that_names_it(tmp_path, case):
    path = tmp_path / "model.safetensors"
    case.make(path)
    with pytest.raises(UserError) as error:
        read_header(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert all(word in message for word in case.words), message
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))


@pytest.mark.parametrize("name", ACCEPTED)
def test_harmless_irregularities_are_read(tmp_path, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(ACCEPTED[name])
    for tensor in read_header(path).values():
        assert tensor.view().shape == tensor.shape


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580, 0x8B1F])
def test_a_header_whose_length_spells_another_format_is_read(tmp_path, length):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"w": entry()}).encode()
    path.write_bytes(pack(header.ljust(length)))
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert read_header(path).keys() == {"w"}


def test_the_corpus_is_large_enough():
    assert len(CASES) >= 44 + 8


def test_every_dtype_reads_the_bytes_that_the_library_wrote(tmp_path):
    random = np.random.default_rng(0)
    tensors = {
        code: random.integers(0, 2, 48, np.uint8).repeat(dtype.itemsize).view(dtype).reshape(4, 12)
        for code, dtype in DTYPES.items()
    }
    write_file(tmp_path / "x.safetensors", tensors)
    found = read_header(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for code, tensor in found.items():
        assert tensor.code == code
        assert tensor.view().tobytes() == tensors[code].tobytes()


def test_the_library_reads_what_is_written_and_finds_the_format(tmp_path):
    path = tmp_path / "x.safetensors"
    values = {"w": np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3)}
    write_file(path, values)
    assert safetensors.numpy.load_file(path)["w"].tobytes() == values["w"].tobytes()
    header = json.loads(path.read_bytes()[8:][: int.from_bytes(path.read_bytes()[:8], "little")])
    assert header["__metadata__"] == {"format": "pt"}


def test_a_view_cannot_be_written_to(tmp_path):
    write_file(tmp_path / "x.safetensors", {"w": np.ones(3, np.float32)})
    view = read_header(tmp_path / "x.safetensors")["w"].view()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="is a fifo"):
        read_header(tmp_path / "model.safetensors")


def test_a_folder_and_a_device_are_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        read_header(tmp_path)
    with pytest.raises(UserError, match="is a device"):
        read_header(Path("/dev/zero"))


def test_a_symlink_may_point_inside_the_folder_and_nowhere_else(tmp_path):
    folder, outside = tmp_path / "model", tmp_path / "secret"
    folder.mkdir()
    outside.write_bytes(pack({"w": entry()}))
    (folder / "out").symlink_to(outside)
    (folder / "real").write_bytes(pack({"w": entry()}))
    (folder / "in").symlink_to(folder / "real")
    (folder / "broken").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    assert read_header(folder / "in").keys() == {"w"}
    for name, words in {"out": "outside", "broken": "broken symlink", "loop": "symbolic"}.items():
        with pytest.raises(UserError, match=words):
            read_header(folder / name)


def test_links_of_the_hugging_face_cache_are_legal(tmp_path):
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "f00d").write_bytes(b"x" * 10)
    (tmp_path / "elsewhere").write_bytes(b"x")
    (snapshot / "config.json").symlink_to("../../blobs/f00d")
    (snapshot / "model.safetensors").symlink_to("../../../elsewhere")
    assert check_file(snapshot / "config.json") == 10
    with pytest.raises(UserError, match="outside"):
        check_file(snapshot / "model.safetensors")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
_SIZES = st.integers(-1, 40)
_ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "F4", "f32"]) | _JSON,
        "shape": st.lists(_SIZES, max_size=3) | _JSON,
        "data_offsets": st.lists(_SIZES, min_size=2, max_size=2) | _JSON,
    }
)
_HEADERS = st.dictionaries(st.text(max_size=4), _ENTRIES | _JSON, max_size=3).map(
    lambda header: json.dumps(header).encode()
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(raw=_HEADERS | st.binary(max_size=60), size=st.integers(0, 64))
def test_any_header_gives_tensors_that_tile_the_buffer_or_a_user_error(raw, size):
    try:
        tensors = parse_header(raw, Path("x"), buffer_start=8 + len(raw), buffer_size=size)
    except UserError:
        return
    assert sum(t.stop - t.start for t in tensors.values()) == size
    for tensor in tensors.values():
        assert (
            np.prod(tensor.shape, dtype=object) * tensor.dtype.itemsize
            == tensor.stop - tensor.start
        )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    values=st.dictionaries(
        st.text("abc.", min_size=1, max_size=6).filter(lambda name: ".." not in name),
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("round") / "x.safetensors"
    arrays = {name: np.zeros(shape, DTYPES[code]) for name, (code, shape) in values.items()}
    write_file(path, arrays)
    found = read_header(path)
    assert {n: (t.code, list(t.shape)) for n, t in found.items()} == {
        n: (code, shape) for n, (code, shape) in values.items()
    }


def test_a_huge_claim_is_refused_in_little_memory(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack({"w": entry([1 << 50], "F64", [0, 1 << 53])}))
    program = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from jaxablate.checkpoints.safetensors import read_header
        from jaxablate.core.errors import UserError
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        try:
            read_header(Path(sys.argv[1]))
        except UserError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60
    )
    assert "outside the file's buffer" in done.stdout, done.stderr
