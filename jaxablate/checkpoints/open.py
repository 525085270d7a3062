"""Opens any checkpoint folder: Hugging Face's layout, a converted one, or a finetuned model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jaxablate.checkpoints.content import check_folder
from jaxablate.checkpoints.finetuned import is_finetuned, open_finetuned
from jaxablate.checkpoints.pretrained import open_pretrained
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder


def open_checkpoint(
    folder: str | Path, *, dtype: str, mesh: Mesh | None = None, layout: str = "loop"
) -> tuple[Decoder, DecoderConfig, dict[str, Any]]:
    """A decoder, its config, and where the weights came from.

    The third is JSON: `format`, `path`, `weights` (one digest that changes with any bit of weights
    or config), and more by format: see `open_pretrained` and `open_finetuned`.
    """
    folder = check_folder(folder)
    opener = open_finetuned if is_finetuned(folder) else open_pretrained
    return opener(folder, dtype=dtype, mesh=mesh, layout=layout)


def tokenizer_folder(folder: str | Path, source: Mapping[str, Any]) -> Path:
    """Where the tokenizer of an opened checkpoint is: a finetuned model has that of its base."""
    while "base" in source:
        source = source["base"]
        folder = source["path"]
    return Path(folder)
