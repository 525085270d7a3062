import threading
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxablate.checkpoints.cast import all_finite, cast_for
from jaxablate.checkpoints.safetensors import DTYPES, read_header, write_file
from jaxablate.checkpoints.stream import BLOCK_BYTES, Part, Source, Streamer, empty_boxes
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh

BLOCK_ITEMS = BLOCK_BYTES // 2  # of a type of two bytes
FLOATS = ("float32", "bfloat16", "float16")
FP8 = ("F8_E4M3", "F8_E5M2")


def _stored(folder: Path, values: np.ndarray):
    write_file(folder / "x.safetensors", {"w": values})
    return read_header(folder / "x.safetensors")["w"]


def _load(source: Source, dtype="float32", sharding=None) -> jax.Array:
    sharding = sharding or SingleDeviceSharding(jax.devices()[0])
    with Streamer() as streamer:
        return streamer.load(source, dtype=np.dtype(dtype), sharding=sharding)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("code", ["F64", "F32", "F16", "BF16"])
def test_a_cast_is_numpys_cast(tmp_path, code, dtype):
    values = np.random.default_rng(0).normal(size=(37, 11)).astype(DTYPES[code])
    got = np.asarray(_load(Source((Part(_stored(tmp_path, values)),)), dtype))
    assert got.tobytes() == values.astype(dtype).tobytes()


def test_every_finite_bfloat16_widens_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = bits.view(ml_dtypes.bfloat16)
    out = np.empty(values.shape, np.float32)
    cast_for(values.dtype, out.dtype)(values, out)
    assert (out.view(np.uint32) == bits.astype(np.uint32) << 16).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("code", FP8)
def test_fp8_is_dequantised_to_the_bit_as_torch_does(code, dtype):
    torch = pytest.importorskip("torch")
    kinds = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
    codes = np.arange(256, dtype=np.uint8)
    codes = codes[np.isfinite(codes.view(DTYPES[code]).astype(np.float32))]
    for scale in (1.0, 0.00213623046875, 3.05175781e-05, 0.7):
        scale_bf16 = torch.tensor(scale, dtype=torch.bfloat16)
        weight = torch.from_numpy(codes.copy()).view(kinds[code])
        wanted = (weight.float() * scale_bf16.float()).to(getattr(torch, dtype))
        out = np.empty(codes.shape, dtype)
        cast_for(DTYPES[code], out.dtype, np.float32(scale_bf16.float()))(
            codes.view(DTYPES[code]), out
        )
        assert out.astype(np.float32).tobytes() == wanted.float().numpy().tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_finite_means_what_numpy_says(dtype):
    for value in (0, -1, 1e-3, np.nan, np.inf, -np.inf):
        array = np.array([1, value, 2], dtype)
        assert all_finite(array) == bool(np.isfinite(array.astype(np.float32)).all())
    assert all_finite(np.empty(0, dtype))


def test_every_nan_and_infinity_is_found():
    bits = np.arange(1 << 16, dtype=np.uint16)
    for dtype in (ml_dtypes.bfloat16, np.float16):
        values = bits.view(dtype)
        finite = np.isfinite(values.astype(np.float32))
        assert all_finite(values[finite])
        assert not any(all_finite(values[i : i + 1]) for i in np.flatnonzero(~finite)[::37])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("position", [0, BLOCK_ITEMS - 1, BLOCK_ITEMS, 2 * BLOCK_ITEMS + 5])
def test_one_bad_value_in_any_block_names_the_tensor(tmp_path, bad, position):
    values = np.zeros(2 * BLOCK_ITEMS + 6, ml_dtypes.bfloat16)
    values[position] = bad
    with pytest.raises(UserError, match=r"x\.safetensors: tensor 'w': holds NaN or infinity"):
        _load(Source((Part(_stored(tmp_path, values)),)), "bfloat16")


def test_a_value_too_large_for_the_type_is_not_called_infinite(tmp_path):
    stored = _stored(tmp_path, np.array([1e6], np.float32))
    with pytest.raises(UserError, match="'w': has values too large for float16; load it as bf"):
        _load(Source((Part(stored),)), "float16")


@pytest.mark.parametrize("shape", [(), (1,), (0, 4), (7,), (5, 3), (2, 3, 4)])
def test_any_shape_arrives_unchanged(tmp_path, shape):
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert np.array_equal(_load(Source((Part(_stored(tmp_path, values)),))), values)


def test_a_tensor_of_several_blocks_arrives_unchanged(tmp_path):
    values = np.random.default_rng(2).integers(0, 1 << 15, (3, BLOCK_ITEMS // 2 + 1), np.uint16)
    values = np.where(values < 0x7F00, values, 0).astype(np.uint16).view(ml_dtypes.bfloat16)
    got = np.asarray(_load(Source((Part(_stored(tmp_path, values)),)), "bfloat16"))
    assert got.tobytes() == values.tobytes()


@pytest.mark.parametrize("spec", [("fsdp", "tensor"), (None, "fsdp"), ("tensor", None), ()])
def test_shards_on_eight_devices_make_the_whole_array(tmp_path, spec):
    mesh = make_mesh(parse_mesh("data=2,fsdp=2,tensor=2"))
    values = np.random.default_rng(3).normal(size=(16, 8)).astype(np.float32)
    source = Source((Part(_stored(tmp_path, values)),))
    got = _load(source, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
    assert np.array_equal(got, values)
    for shard in got.addressable_shards:
        assert np.array_equal(shard.data, values[shard.index])


def test_stacked_tensors_are_sharded_as_one_array(tmp_path):
    mesh = make_mesh(parse_mesh("fsdp=2,tensor=2"))
    values = np.random.default_rng(4).normal(size=(3, 4, 8)).astype(np.float32)
    write_file(tmp_path / "x.safetensors", {str(i): layer for i, layer in enumerate(values)})
    stored = read_header(tmp_path / "x.safetensors")
    source = Source(tuple(Part(stored[str(i)]) for i in range(3)), stacked=True)
    assert source.shape == (3, 4, 8)
    got = _load(source, sharding=NamedSharding(mesh, PartitionSpec(None, "tensor", "fsdp")))
    assert np.array_equal(got, values)


def test_a_shard_reads_only_its_own_rows(tmp_path):
    values = np.ones((8, 4), np.float32)
    values[4:] = np.nan
    part = Part(_stored(tmp_path, values))
    with Streamer() as streamer:
        half = np.empty((4, 2), np.float32)
        streamer.fill(part, {((0, 4), (2, 4)): half})
    assert (half == 1).all()


def test_the_cpu_keeps_the_buffer_instead_of_copying_it():
    box = ((0, 1000), (5, 105))
    buffer = empty_boxes([((0, 1), (0, 5)), box], np.dtype(np.float32))[box]
    device = SingleDeviceSharding(jax.devices()[0])
    array = jax.make_array_from_callback(buffer.shape, device, lambda index: buffer)
    assert array.unsafe_buffer_pointer() == buffer.ctypes.data


def test_a_weight_may_be_donated_afterwards(tmp_path):
    source = Source((Part(_stored(tmp_path, np.full((4, 4), 3, np.float32))),))
    weight = _load(source)
    doubled = jax.jit(lambda w: w * 2, donate_argnums=0)(weight)
    assert (np.asarray(doubled) == 6).all()
    assert (np.asarray(_load(source)) == 3).all()


def test_a_file_that_shrinks_is_an_error_and_not_a_dead_process(tmp_path):
    stored = _stored(tmp_path, np.ones((1000, 1000), np.float32))
    with open(stored.file, "r+b") as file:
        file.truncate(100_000)
    with pytest.raises(UserError, match=r"x\.safetensors: became shorter while it was read"):
        _load(Source((Part(stored),)))


def test_a_file_that_is_gone_is_an_error(tmp_path):
    stored = _stored(tmp_path, np.ones(3, np.float32))
    stored.file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        _load(Source((Part(stored),)))


def test_a_load_takes_little_more_memory_than_the_weights(tmp_path):
    size = 1 << 27
    part = Part(_stored(tmp_path, np.ones((1 << 13, size >> 14), ml_dtypes.bfloat16)))
    mesh = make_mesh(parse_mesh("fsdp=8"))
    before, peak, done = _anonymous_bytes(), [0], threading.Event()

    def watch():
        while not done.wait(0.001):
            peak[0] = max(peak[0], _anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    sharding = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    array = _load(Source((part,)), "bfloat16", sharding)
    done.set()
    watcher.join()
    assert array.nbytes == size
    assert peak[0] - before < 1.05 * size + (8 << 20)


def _anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
