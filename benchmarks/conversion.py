"""Loading a Hugging Face checkpoint: seconds and host memory of jaxablate and of two others.

    python benchmarks/conversion.py --folder /somewhere/with/7GB

Writes a checkpoint of the shape of Ministral-3-3B (26 layers, 3072/9216, 32/8 heads of 128,
vocabulary 131072, tied; bfloat16, random, 3 shards, 6.9 GB), reads it once so that it lies in the
page cache, and then loads it in a fresh process for each loader and repeat:

    jaxablate      load_hf onto the mesh
    safetensors    safetensors.flax.load_file of all shards, then device_put onto the mesh
    transformers   AutoModelForCausalLM.from_pretrained (torch)

"load" ends when the loader returns ready arrays; "CPU" is what all threads used until then,
which other work on the machine disturbs less. "read" is the time to look at every weight once
afterwards, which is where a loader that maps the files pays. Peak memory is the anonymous
resident memory of the process, sampled every 5 ms from outside from its start to its end; RSS
adds the pages of files that are mapped.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOADERS = ("jaxablate", "safetensors", "transformers")
NUM_SHARDS = 3


def hf_config(scale: float) -> dict:
    """Ministral-3-3B's config.json; `scale` takes that share of the layers and the vocabulary."""
    return {
        "model_type": "ministral3",
        "architectures": ["Ministral3ForCausalLM"],
        "dtype": "bfloat16",
        "vocab_size": max(1024, int(131072 * scale)),
        "hidden_size": 3072,
        "intermediate_size": 9216,
        "num_hidden_layers": max(1, round(26 * scale)),
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    }


def write_checkpoint(folder: Path, raw: dict) -> int:
    """Random finite weights between 2^-8 and 2^-7 in size, in the config's dtype; their bytes."""
    import ml_dtypes
    import numpy as np

    from jaxablate.checkpoints.export import split_shards
    from jaxablate.checkpoints.plan import shapes_of
    from jaxablate.checkpoints.safetensors import write_file
    from jaxablate.models.family import family_of

    folder.mkdir(parents=True, exist_ok=True)
    family = family_of(raw)
    kind = ml_dtypes.bfloat16 if raw["dtype"] == "bfloat16" else np.float32
    config = family.from_hf(raw)
    names, shapes = family.hf_names(config), shapes_of(config)
    random = np.random.Generator(np.random.SFC64(0))
    sizes = {path: int(np.prod(shape)) * np.dtype(kind).itemsize for path, shape in shapes.items()}
    total = sum(sizes.values())
    groups = split_shards(sizes, int(total / NUM_SHARDS * 1.02))
    placed = {}
    for number, group in enumerate(groups, 1):
        tensors = {}
        for path in group:
            bits = random.integers(0, 1 << 16, shapes[path], np.uint16)
            bits &= 0x807F
            bits |= 0x3B80
            tensors[names[path]] = bits.view(ml_dtypes.bfloat16).astype(kind, copy=False)
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        write_file(folder / file, tensors)
        placed |= dict.fromkeys(tensors, file)
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(raw))
    return total


def load_jaxablate(folder: Path, devices: int, dtype: str):
    import jax

    from jaxablate.checkpoints.hf import load_hf
    from jaxablate.core.mesh import make_mesh, parse_mesh
    from jaxablate.models.layout import weights

    mesh = make_mesh(parse_mesh(f"fsdp={devices}"))
    yield
    decoder, _ = load_hf(folder, dtype=dtype, mesh=mesh)
    arrays = jax.block_until_ready(list(weights(decoder).values()))
    yield sum(array.nbytes for array in arrays)
    yield _look_at(arrays)


def load_safetensors(folder: Path, devices: int, dtype: str):
    import jax
    import safetensors.flax
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((devices,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    jax.devices()
    yield
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= safetensors.flax.load_file(file)
    for name, array in tensors.items():
        fits = array.shape[0] % devices == 0
        sharding = NamedSharding(mesh, PartitionSpec("fsdp" if fits else None))
        tensors[name] = jax.device_put(array.astype(dtype), sharding)
    arrays = jax.block_until_ready(list(tensors.values()))
    yield sum(array.nbytes for array in arrays)
    yield _look_at(arrays)


def load_transformers(folder: Path, _devices: int, dtype: str):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    yield
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    yield sum(p.numel() * p.element_size() for p in model.parameters())
    yield [p.detach().view(-1).view(torch.uint8).max() for p in model.parameters()]


def _look_at(arrays: list) -> list:
    import numpy as np

    shards = [shard.data for array in arrays for shard in array.addressable_shards]
    return [np.asarray(shard).reshape(-1).view(np.uint8).max() for shard in shards]


def child(loader: str, folder: Path, devices: int, dtype: str) -> None:
    """Load once; one line of JSON on standard output."""
    steps = globals()[f"load_{loader}"](folder, devices, dtype)
    next(steps)
    baseline, _ = resident_bytes(os.getpid())
    started, cpu = time.perf_counter(), time.process_time()
    size = next(steps)
    loaded, cpu = time.perf_counter(), time.process_time() - cpu
    next(steps)
    read = time.perf_counter()
    times = {"load_s": loaded - started, "load_cpu_s": cpu, "read_s": read - loaded}
    print(json.dumps({**times, "owned_bytes": size, "baseline_bytes": baseline}))


def resident_bytes(process: int) -> tuple[int, int]:
    """Anonymous and whole resident memory of a process; zeros when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    sizes = {line.split(":")[0]: line.split()[1:2] for line in lines}
    anonymous, whole = (int((sizes.get(key) or [0])[0]) * 1024 for key in ("RssAnon", "VmRSS"))
    return anonymous, whole


def run_child(loader: str, folder: Path, devices: int, dtype: str) -> dict:
    """Measure one load in a fresh process."""
    for file in folder.glob("*.safetensors"):
        with open(file, "rb", buffering=0) as raw:
            while raw.read(1 << 24):
                pass
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    words = [sys.executable, __file__, "--child", loader, "--folder", str(folder)]
    words += ["--devices", str(devices), "--dtype", dtype]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    peak, peak_whole = 0, 0
    while process.poll() is None:
        anonymous, whole = resident_bytes(process.pid)
        peak, peak_whole = max(peak, anonymous), max(peak_whole, whole)
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{loader} ended with code {process.returncode}")
    assert process.stdout is not None
    result = json.loads(process.stdout.read().splitlines()[-1])
    return {
        "loader": loader,
        "peak_anon_bytes": peak,
        "peak_resident_bytes": peak_whole,
        "load_average": os.getloadavg()[0],
        **result,
    }


def table(results: list[dict], file_bytes: int) -> str:
    """Medians over the repeats, one line a loader."""
    columns = {"load s": 8, "GB/s": 7, "CPU s": 8, "read s": 8, "peak anon GB": 14, "of owned": 10}
    columns["peak RSS GB"] = 13
    lines = ["loader".ljust(14) + "".join(name.rjust(width) for name, width in columns.items())]
    for loader in dict.fromkeys(result["loader"] for result in results):
        rows = [result for result in results if result["loader"] == loader]
        keys = (
            "load_s",
            "load_cpu_s",
            "read_s",
            "peak_anon_bytes",
            "owned_bytes",
            "peak_resident_bytes",
        )
        load, cpu, read, peak, owned, whole = (
            statistics.median(row[key] for row in rows) for key in keys
        )
        speed = file_bytes / load / 1e9
        memory = f"{peak / 1e9:14.2f}{peak / owned:10.3f}{whole / 1e9:13.2f}"
        lines.append(f"{loader:14}{load:8.2f}{speed:7.2f}{cpu:8.2f}{read:8.2f}{memory}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoint goes (default: a temporary one)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of layers and vocabulary")
    parser.add_argument(
        "--devices", type=int, default=8, help="CPU devices to split the weights over"
    )
    parser.add_argument("--dtype", default="bfloat16", help="type of the loaded weights")
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, default=LOADERS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every single result there")
    parser.add_argument("--keep", action="store_true", help="do not delete the checkpoint")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder, options.devices, options.dtype)
        return
    parent = options.folder or Path(tempfile.mkdtemp())
    folder = parent / "checkpoint"
    try:
        size = write_checkpoint(folder, hf_config(options.scale))
        os.sync()  # else writing back the checkpoint disturbs the first load
        print(
            f"{size / 1e9:.2f} GB in {NUM_SHARDS} shards, {os.cpu_count()} cores, "
            f"{options.devices} CPU devices, to {options.dtype}",
            flush=True,
        )
        results = []
        for _ in range(options.repeats):  # loaders take turns, so that a slow minute hits all
            for loader in options.loaders:
                results.append(run_child(loader, folder, options.devices, options.dtype))
                print(json.dumps(results[-1]), flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(table(results, size))
    if options.json:
        options.json.write_text(json.dumps({"file_bytes": size, "results": results}, indent=1))


if __name__ == "__main__":
    main()
