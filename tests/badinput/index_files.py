"""Wrong `model.safetensors.index.json` files and shards that do not agree with theirs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.badinput.case import BadInput, check_ids
from tests.badinput.safetensors_files import entry, pack

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def make_good(folder: Path) -> None:
    """Two shards of two tensors each, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, names in zip(SHARDS, ("ab", "cd"), strict=True):
        header = {n: entry(offsets=(8 * i, 8 * i + 8)) for i, n in enumerate(names)}
        (folder / shard).write_bytes(pack(header, bytes(16)))
    placed = {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1], "d": SHARDS[1]}
    _write(folder, {"metadata": {"total_size": 32}, "weight_map": placed})


def _write(folder: Path, index: Any) -> None:
    (folder / INDEX).write_text(index if isinstance(index, str) else json.dumps(index))


def _read(folder: Path) -> dict:
    return json.loads((folder / INDEX).read_text())


def _text(text: str) -> Callable[[Path], None]:
    return lambda folder: _write(folder, text)


def _map(value: Any) -> Callable[[Path], None]:
    return lambda folder: _write(folder, {"weight_map": value})


def _place(name: str, file: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        index = _read(folder)
        index["weight_map"][name] = file
        _write(folder, index)

    return change


def _drop(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        index = _read(folder)
        del index["weight_map"][name]
        _write(folder, index)

    return change


def _million(folder: Path) -> None:
    placed = {f"layer.{n}.with.a.name.of.usual.length.weight": SHARDS[0] for n in range(1_000_000)}
    _write(folder, {"weight_map": placed})


def _hostile(name: str, file: Any) -> BadInput:
    return BadInput(f"file name: {name}", _place("a", file), (INDEX, "'a'", "plain name"))


CASES = check_ids(
    [
        BadInput("not JSON", _text("{"), (INDEX, "not readable as JSON")),
        BadInput("empty", _text(""), (INDEX, "not readable as JSON")),
        BadInput("a list", _text("[]"), (INDEX, "weight_map")),
        BadInput("no weight_map", _text('{"metadata": {}}'), (INDEX, "weight_map")),
        BadInput("weight_map is a list", _map([]), (INDEX, "weight_map")),
        BadInput("weight_map is empty", _map({}), (INDEX, "empty")),
        BadInput(
            "key twice",
            _text(f'{{"weight_map": {{"a": "{SHARDS[0]}", "a": "{SHARDS[1]}"}}}}'),
            (INDEX, "duplicate", "'a'"),
        ),
        BadInput("million entries", _million, (INDEX, "bytes")),
        BadInput("wrong shard", _place("a", SHARDS[1]), (INDEX, "'a'", SHARDS[1], SHARDS[0])),
        BadInput("listed but absent", _place("z", SHARDS[0]), (INDEX, "'z'", "lacks")),
        BadInput("present but not listed", _drop("d"), (INDEX, "'d'", "not listed")),
        BadInput(
            "shard not there",
            _place("a", "model-9.safetensors"),
            ("model-9.safetensors", "missing"),
        ),
        _hostile("climbs", "../model.safetensors"),
        _hostile("climbs inside", "a/../../b.safetensors"),
        _hostile("climbs backwards", "..\\model.safetensors"),
        _hostile("climbs encoded", "%2e%2e%2fmodel.safetensors"),
        _hostile("absolute", "/etc/model.safetensors"),
        _hostile("drive", "C:model.safetensors"),
        _hostile("NUL", "model\0.safetensors"),
        _hostile("trailing dot", "model.safetensors."),
        _hostile("slash look-alike", "a\u2215model.safetensors"),
        _hostile("very long", "m" * 300 + ".safetensors"),
        _hostile("empty", ""),
        _hostile("number", 1),
        _hostile("null", None),
        _hostile("pickle", "pytorch_model.bin"),
        _hostile("device", "/dev/zero"),
    ]
)
