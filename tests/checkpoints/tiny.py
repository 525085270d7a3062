"""Tiny checkpoints made of numpy alone: random weights under Hugging Face's names."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxablate.checkpoints.export import split_shards
from jaxablate.checkpoints.index import INDEX, SINGLE
from jaxablate.checkpoints.plan import shapes_of
from jaxablate.checkpoints.safetensors import read_header, write_file
from jaxablate.models.families import get
from jaxablate.models.family import family_of

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def config_json(family: str = "llama", **changes: Any) -> dict[str, Any]:
    """A config.json of a tiny model."""
    return {"model_type": family, "architectures": [get(family).architecture], **SIZES, **changes}


def random_tensors(
    hf_config: dict[str, Any], dtype: Any = ml_dtypes.bfloat16
) -> dict[str, np.ndarray]:
    """A tensor of random numbers for every name that the model has."""
    family = family_of(hf_config)
    config = family.from_hf(hf_config)
    random = np.random.default_rng(0)
    names, shapes = family.hf_names(config), shapes_of(config)
    return {names[path]: random.normal(size=shapes[path]).astype(dtype) for path in shapes}


def write_folder(
    folder: Path, hf_config: dict[str, Any], tensors: dict[str, np.ndarray], shards: int = 1
) -> Path:
    """config.json and the tensors, in one file or about `shards` of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config))
    if shards == 1:
        write_file(folder / SINGLE, tensors)
        return folder
    sizes = {name: value.nbytes for name, value in tensors.items()}
    groups = split_shards(sizes, sum(sizes.values()) // shards + 1)
    placed = {}
    for number, group in enumerate(groups, 1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        write_file(folder / file, {name: tensors[name] for name in group})
        placed |= dict.fromkeys(group, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return folder


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder, copied, by name."""
    files = sorted(folder.glob("*.safetensors"))
    return {n: np.array(t.view()) for file in files for n, t in read_header(file).items()}
