"""Writes a decoder as a Hugging Face folder that transformers loads."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxablate.checkpoints.commit import check_free, new_folder
from jaxablate.checkpoints.content import check_file
from jaxablate.checkpoints.index import INDEX, SINGLE
from jaxablate.checkpoints.plan import CONFIG
from jaxablate.checkpoints.safetensors import write_file
from jaxablate.core.errors import UserError
from jaxablate.core.files import write_json
from jaxablate.data.tokenizer import FILES
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder
from jaxablate.models.families import get
from jaxablate.models.layout import weights

MAX_SHARD_BYTES = 2_000_000_000

# Copied as they are, when they are there.
BESIDE_THE_WEIGHTS = ("generation_config.json", *FILES)


def save_hf(
    decoder: Decoder,
    config: DecoderConfig,
    folder: str | Path,
    *,
    tokenizer_files_from: str | Path | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write weights, config.json and the tokenizer's files into a new folder.

    A decoder that was read out of an image-text model is written as the text model it is. The
    folder appears whole or not at all; one that holds something already is refused.
    """
    check_free(folder)
    if jax.process_count() > 1:
        raise UserError("an export needs all weights in one process; run it on one host")
    family = get(config.family)
    text = family.text_tower(config)
    with new_folder(folder) as partial:
        _write_weights(partial, weights(decoder), family.hf_names(text), max_shard_bytes)
        dtype = str(decoder.final_norm.weight[...].dtype)
        write_json(partial / CONFIG, family.to_hf(text, dtype=dtype))
        for file in files_beside(tokenizer_files_from):
            shutil.copyfile(file, partial / file.name)


def files_beside(folder: str | Path | None) -> list[Path]:
    """The tokenizer's and the generation settings' files in `folder`."""
    if folder is None:
        return []
    files = [Path(folder) / name for name in BESIDE_THE_WEIGHTS]
    files = [file for file in files if file.exists() or file.is_symlink()]
    for file in files:
        check_file(file)
    return files


def split_shards(sizes: Mapping[str, int], largest: int) -> list[list[str]]:
    """Names in order, cut into shards of at most `largest` bytes (or of one tensor).

    >>> split_shards({"a": 3, "b": 3, "c": 9, "d": 1}, 6)
    [['a', 'b'], ['c'], ['d']]
    """
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = largest
        shards[-1].append(name)
        room -= size
    return shards


def _write_weights(
    folder: Path, arrays: Mapping[str, jax.Array], names: Mapping[str, str], largest: int
) -> None:
    paths = {hf: path for path, hf in names.items()}
    sizes = {hf: _size(arrays, path) for hf, path in paths.items()}
    shards = split_shards(sizes, largest)
    placed = {}
    for number, shard in enumerate(shards, 1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_file(folder / file, {hf: _host(arrays, paths[hf]) for hf in shard})
        placed |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": placed}
        write_json(folder / INDEX, index)


def _size(arrays: Mapping[str, jax.Array], path: str) -> int:
    stack, layer = _find(arrays, path)
    return stack.nbytes if layer is None else stack.nbytes // len(stack)


def _host(arrays: Mapping[str, jax.Array], path: str) -> np.ndarray:
    stack, layer = _find(arrays, path)
    return np.asarray(stack if layer is None else stack[layer])


def _find(arrays: Mapping[str, jax.Array], path: str) -> tuple[jax.Array, int | None]:
    """The array of a weight; in the layout "scan", the array of all layers and the layer."""
    if path in arrays:
        return arrays[path], None
    first, layer, rest = path.split("/", 2)
    return arrays[f"{first}/{rest}"], int(layer)
