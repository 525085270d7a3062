"""One checkpoint into another format: jaxablate's verified folders, and Hugging Face's."""

from pathlib import Path
from typing import Any

from jaxablate.checkpoints import store
from jaxablate.checkpoints.commit import check_free
from jaxablate.checkpoints.export import save_hf
from jaxablate.checkpoints.finetuned import dtype_of, is_finetuned
from jaxablate.checkpoints.hub import resolve
from jaxablate.checkpoints.manifest import read_manifest
from jaxablate.checkpoints.open import open_checkpoint, tokenizer_folder
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json


def convert(
    source: str | Path, out: Path, *, to: str, dtype: str | None, revision: str | None = None
) -> dict[str, Any]:
    """Write the checkpoint `source` to `out`; returns where its weights came from.

    Args:
        source: folder or hub id, or the folder of a finetuning, which is merged.
        out: folder to write; new or empty.
        to: "jaxablate" or "hf".
        dtype: of the weights; None keeps that of the source, bit for bit.
        revision: commit, branch or tag of a hub id.

    Raises:
        UserError: for a folder that is not free, or a source that cannot be read.
    """
    check_free(out)
    folder = resolve(source, revision=revision)
    decoder, config, origin = open_checkpoint(folder, dtype=dtype or _dtype_of(folder))
    files_from = tokenizer_folder(folder, origin)
    if to == "hf":
        save_hf(decoder, config, out, tokenizer_files_from=files_from)
    else:
        store.save(decoder, config, out, source=origin, tokenizer_files_from=files_from)
    return origin


def _dtype_of(folder: Path) -> str:
    """The floating type that a checkpoint says it is in."""
    if is_finetuned(folder):
        return dtype_of(folder)
    if store.is_stored(folder):
        return next(iter(read_manifest(folder)["arrays"].values()))["dtype"]
    config = read_json(folder / "config.json")
    for table in (config, config.get("text_config", {})) if isinstance(config, dict) else ():
        for key in ("dtype", "torch_dtype"):
            if isinstance(table, dict) and isinstance(table.get(key), str):
                return parse_dtype(table[key])
    raise UserError(f"{folder}/config.json does not say the weights' type; give --dtype")
