"""Finds the weights of a checkpoint folder: one file, or the shards that an index names."""

import re
from pathlib import Path
from typing import Any

from jaxablate.checkpoints.content import check_file, check_folder, read_json_file, shown
from jaxablate.checkpoints.safetensors import StoredTensor, read_header
from jaxablate.core.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors", re.IGNORECASE)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


def find_weights(folder: str | Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder by name, from headers alone.

    Raises:
        UserError: naming the file or tensor, when the folder has no safetensors weights, or when
            index and shards do not agree exactly.
    """
    folder = check_folder(folder)
    names = sorted(entry.name for entry in folder.iterdir())
    if INDEX in names:
        return _from_index(folder, names)
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if SINGLE in names and not shards:
        return read_header(folder / SINGLE)
    if shards:
        raise UserError(
            f"{folder}: {shards[0]} looks like one of several shards, but there is no {INDEX}"
        )
    raise _no_weights(folder, names)


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files that `find_weights` reads, sorted by name."""
    folder = check_folder(folder)
    if (folder / INDEX).exists():
        return [folder / name for name in sorted(set(_read_map(folder / INDEX).values()))]
    return [folder / SINGLE]


def _from_index(folder: Path, names: list[str]) -> dict[str, StoredTensor]:
    path = folder / INDEX
    placed = _read_map(path)
    listed = set(placed.values())
    for name in sorted(listed - set(names)):
        raise _missing_shard(folder, path, name, names)
    for name in names:
        if name not in listed and (_SHARD.fullmatch(name) or name == SINGLE):
            raise UserError(f"{folder / name}: extra weight file that {INDEX} does not list")
    found: dict[str, StoredTensor] = {}
    for file in sorted(listed):
        for name, tensor in read_header(folder / file).items():
            _check_place(path, name, tensor, placed)
            found[name] = tensor
    for name in placed:
        if name not in found:
            raise UserError(
                f"{path}: tensor {shown(name)} is listed in {placed[name]}, which lacks it"
            )
    return found


def _read_map(path: Path) -> dict[str, str]:
    index = read_json_file(path)
    placed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(placed, dict):
        raise UserError(f"{path}: has no 'weight_map' from tensor names to file names")
    if not placed:
        raise UserError(f"{path}: 'weight_map' is empty")
    for name, file in placed.items():
        _check_file_name(path, name, file)
    return placed


def _check_file_name(path: Path, name: str, file: Any) -> None:
    plain = isinstance(file, str) and re.fullmatch(r"[A-Za-z0-9][\w.+=-]{0,254}", file, re.ASCII)
    if not plain or ".." in file or not file.endswith(".safetensors"):
        raise UserError(
            f"{path}: tensor {shown(name)} is mapped to {shown(file)}; "
            "wanted the plain name of a .safetensors file in the same folder"
        )


def _check_place(path: Path, name: str, tensor: StoredTensor, placed: dict[str, str]) -> None:
    if name not in placed:
        raise UserError(
            f"{path}: tensor {shown(name)} lies in {tensor.file.name} but is not listed"
        )
    if placed[name] != tensor.file.name:
        raise UserError(
            f"{path}: tensor {shown(name)} is listed in {placed[name]} "
            f"but lies in {tensor.file.name}"
        )


def _missing_shard(folder: Path, path: Path, name: str, names: list[str]) -> UserError:
    if (folder / name).is_symlink():
        check_file(folder / name)
    guess = next((other for other in names if other.lower() == name.lower()), None)
    hint = f" (there is {guess})" if guess else ""
    return UserError(f"{folder / name}: shard named in {path.name} is missing{hint}")


def _no_weights(folder: Path, names: list[str]) -> UserError:
    lower = [name.lower() for name in names]
    if "adapter_config.json" in lower or any(n.startswith("adapter_model.") for n in lower):
        return UserError(
            f"{folder}: holds a PEFT adapter only; merge it into its base model and save that"
        )
    if gguf := [name for name in names if name.lower().endswith(".gguf")]:
        return UserError(f"{folder}: {gguf[0]} is GGUF; wanted the original safetensors weights")
    if pickled := [name for name in names if name.lower().endswith(_PICKLES)]:
        return UserError(
            f"{folder}: {pickled[0]} is not safetensors, and pickles are never read; convert it "
            "with transformers: model.save_pretrained(folder), which writes safetensors"
        )
    if other := [name for name in names if name.lower().endswith(".safetensors")]:
        return UserError(f"{folder}: {other[0]} is not in Hugging Face's layout; wanted {SINGLE}")
    if not names:
        return UserError(f"{folder}: is empty; wanted config.json and {SINGLE}")
    return UserError(f"{folder}: has no weights; wanted {SINGLE} or {INDEX} with its shards")
