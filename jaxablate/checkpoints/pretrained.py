"""Opens a checkpoint that holds all weights: Hugging Face's layout or our own converted one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jaxablate.checkpoints import store
from jaxablate.checkpoints.content import check_folder
from jaxablate.checkpoints.hf import read_planned
from jaxablate.checkpoints.hub import revision_of
from jaxablate.checkpoints.index import weight_files
from jaxablate.checkpoints.manifest import describe_files, digest_files
from jaxablate.checkpoints.plan import CONFIG, plan_load
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder


def open_pretrained(
    folder: str | Path, *, dtype: str, mesh: Mesh | None = None, layout: str = "loop"
) -> tuple[Decoder, DecoderConfig, dict[str, Any]]:
    """A decoder, its config, and where the weights came from.

    The third is JSON: `format`, `path`, `revision` (a commit of the hub, or None), `files` with
    the SHA-256 of each, `weights` (one digest that changes with any bit of weights or config),
    and what loading did.
    """
    folder = check_folder(folder)
    if store.is_stored(folder):
        return store.open_stored(folder, dtype=dtype, mesh=mesh, layout=layout)
    plan = plan_load(folder, layout=layout)
    with ThreadPoolExecutor(1) as pool:  # the digests' reads warm the loader's, and the reverse
        digests = pool.submit(describe_source, folder)
        loaded = read_planned(plan, dtype=dtype, mesh=mesh)
        source = digests.result()
    return loaded.decoder, loaded.config, {**source, **loaded.report}


def describe_source(folder: Path) -> dict[str, Any]:
    """Where a Hugging Face folder's weights come from, and the digests of its files."""
    names = [CONFIG, *(file.name for file in weight_files(folder))]
    files = describe_files(folder, names)
    return {
        "format": "huggingface",
        "path": str(folder.resolve()),
        "revision": revision_of(folder),
        "files": files,
        "weights": digest_files(files),
    }
