"""Wrong Hugging Face folders; each case spoils a good one of three shards or of one file."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tests.badinput.case import BadInput, check_ids
from tests.checkpoints.tiny import config_json, random_tensors, tensors_of, write_folder

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
Q = "model.layers.1.self_attn.q_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"


def make_good(folder: Path, *, shards: int = 1) -> None:
    """A tiny llama, bfloat16, with a tokenizer file."""
    hf_config = config_json()
    write_folder(folder, hf_config, random_tensors(hf_config), shards)
    (folder / "tokenizer.json").write_text("{}")


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def _without(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names]


def _instead(name: str, content: bytes | str = b"", *, of: str = SINGLE) -> Callable[[Path], None]:
    raw = content.encode() if isinstance(content, str) else content

    def change(folder: Path) -> None:
        (folder / of).unlink()
        (folder / name).write_bytes(raw)

    return change


def _second_shard(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    return lambda folder: change(_shards(folder)[1])


def _tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = tensors_of(folder)
        change(tensors)
        write_folder(folder, json.loads((folder / "config.json").read_text()), tensors)

    return rewrite


def _set(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return _tensors(lambda tensors: tensors.update({name: function(tensors[name])}))


def _with(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[-1, -1] = value
        return array

    return change


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def _to_folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing-here")


def _to_outside_link(path: Path) -> None:
    outside = path.parent.parent / "outside.safetensors"
    shutil.move(path, outside)
    path.symlink_to(outside)


def _to_adapter(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def _to_incomplete(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "0123abcd.incomplete")


_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n"

# Folders with one weight file.
SINGLE_CASES = [
    BadInput("folder missing", shutil.rmtree, ("no such folder",)),
    BadInput(
        "file, not folder",
        lambda folder: (shutil.rmtree(folder), folder.write_text("")),
        ("is a file",),
    ),
    BadInput(
        "folder empty",
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        ("config.json", "no such file"),
    ),
    BadInput("no config", _without("config.json"), ("config.json", "no such file")),
    BadInput("config is a folder", _to_folder("config.json"), ("config.json", "is a folder")),
    BadInput("config is a fifo", lambda f: _to_fifo(f / "config.json"), ("config.json", "fifo")),
    BadInput(
        "config is a pointer",
        lambda folder: (folder / "config.json").write_text(_POINTER),
        ("config.json", "Git-LFS"),
    ),
    BadInput("no weights", _without(SINGLE), ("no weights", SINGLE)),
    BadInput(
        "pickle only",
        _instead("pytorch_model.bin", b"\x80\x04."),
        ("pytorch_model.bin", "save_pretrained"),
    ),
    BadInput("pickled safetensors", _instead(SINGLE, b"\x80\x04."), (SINGLE, "pickle")),
    BadInput("PyTorch .pth only", _instead("consolidated.00.pth", b"PK"), ("consolidated.00.pth",)),
    BadInput(
        "Mistral's layout only", _instead("consolidated.safetensors"), ("consolidated", SINGLE)
    ),
    BadInput("GGUF", _instead("model-q4.gguf", b"GGUF"), ("model-q4.gguf", "safetensors")),
    BadInput("adapter", _to_adapter, ("adapter", "merge")),
    BadInput("download not finished", _to_incomplete, ("no weights", SINGLE)),
    BadInput("weights are a folder", _to_folder(SINGLE), (SINGLE, "is a folder")),
    BadInput("weights are a fifo", lambda folder: _to_fifo(folder / SINGLE), (SINGLE, "fifo")),
    BadInput("weights link to nothing", lambda f: _to_broken_link(f / SINGLE), (SINGLE, "broken")),
    BadInput("weights link outside", lambda f: _to_outside_link(f / SINGLE), (SINGLE, "outside")),
    BadInput("family unknown", _config(model_type="gpt2"), ("config.json", "'gpt2'", "llama")),
    BadInput("layers fewer than weights", _config(num_hidden_layers=1), ("model.layers.1",)),
    BadInput("layers more than weights", _config(num_hidden_layers=3), ("lacks", "model.layers.2")),
    BadInput(
        "vocabulary of another size",
        _config(vocab_size=95),
        ("embed_tokens", "[96, 32]", "[95, 32]"),
    ),
    BadInput("tensor missing", _tensors(lambda t: t.pop(Q)), ("lacks", Q)),
    BadInput("tensor unexpected", _tensors(lambda t: t.update(extra=t[Q])), ("'extra'",)),
    BadInput(
        "tensor misspelt",
        _tensors(lambda t: t.update({Q + "s": t.pop(Q)})),
        (Q, f"{Q}s", "unexpected"),
    ),
    BadInput(
        "all tensors prefixed",
        _tensors(lambda t: [t.update({"x." + n: t.pop(n)}) for n in list(t)]),
        ("lacks", "more", "'x."),
    ),
    BadInput(
        "tensor transposed",
        _set(DOWN, lambda a: a.T.copy()),
        (DOWN, "[48, 32]", "[32, 48]", "transposed"),
    ),
    BadInput("tensor of wrong shape", _set(DOWN, lambda a: a[:-1]), (DOWN, "[31, 48]")),
    BadInput("scalar for a matrix", _set(DOWN, lambda a: a[0, :1].reshape(())), (DOWN, "shape []")),
    BadInput("tensor of int8", _set(Q, lambda a: a.astype(np.int8)), (Q, "I8", "BF16")),
    BadInput(
        "tensor of FP8 without scale",
        _set(Q, lambda a: a.astype(ml_dtypes.float8_e4m3fn)),
        (Q, "F8_E4M3", "weight_scale_inv"),
    ),
    BadInput("NaN", _set(Q, _with(np.nan)), (Q, "NaN")),
    BadInput("infinity", _set(Q, _with(-np.inf)), (Q, "infinity")),
    BadInput(
        "NaN in a norm",
        _set("model.norm.weight", lambda a: a * np.float32(np.nan)),
        ("model.norm.weight", "NaN"),
    ),
]

# Folders with three shards.
SHARDED_CASES = [
    BadInput(
        "index without shards",
        lambda f: [s.unlink() for s in _shards(f)],
        ("missing", "model-00001"),
    ),
    BadInput("shards without index", _without(INDEX), (INDEX, "model-00001")),
    BadInput("one shard missing", _second_shard(Path.unlink), ("model-00002", "missing")),
    BadInput(
        "extra shard",
        lambda f: shutil.copy(_shards(f)[0], f / "model-00009-of-00009.safetensors"),
        ("model-00009", "extra"),
    ),
    BadInput(
        "single file beside shards",
        lambda f: shutil.copy(_shards(f)[0], f / SINGLE),
        (SINGLE, "extra"),
    ),
    BadInput(
        "shard name in capitals",
        _second_shard(lambda s: s.rename(s.with_name(s.name.upper()))),
        ("model-00002", "MODEL-00002"),
    ),
    BadInput("shard empty", _second_shard(lambda s: s.write_bytes(b"")), ("model-00002", "empty")),
    BadInput(
        "shard cut off",
        _second_shard(lambda s: s.write_bytes(s.read_bytes()[:-100])),
        ("model-00002", "truncated"),
    ),
    BadInput(
        "shard is a pointer",
        _second_shard(lambda s: s.write_text(_POINTER)),
        ("model-00002", "Git-LFS"),
    ),
    BadInput(
        "shard is a web page",
        _second_shard(lambda s: s.write_text("<html>")),
        ("model-00002", "web page"),
    ),
    BadInput("shard is a fifo", _second_shard(_to_fifo), ("model-00002", "fifo")),
    BadInput("shard links to nothing", _second_shard(_to_broken_link), ("model-00002", "broken")),
    BadInput("shard links outside", _second_shard(_to_outside_link), ("model-00002", "outside")),
    BadInput("shards exchanged", lambda f: _swap(*_shards(f)[:2]), (INDEX, "listed in")),
]


def _swap(one: Path, other: Path) -> None:
    raw = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(raw)


check_ids([*SINGLE_CASES, *SHARDED_CASES])
