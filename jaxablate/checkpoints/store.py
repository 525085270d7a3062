"""Converted weights on disk: Orbax's arrays, and a manifest that every load verifies.

Orbax does not notice a flipped bit in its data files, and a process can die while it writes. So
a folder is written under another name, described file by file in `manifest.json`, made durable,
and only then renamed; and nothing is restored from a folder that differs from its manifest.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxablate import __version__
from jaxablate.checkpoints.commit import new_folder
from jaxablate.checkpoints.export import files_beside
from jaxablate.checkpoints.manifest import (
    NAME,
    describe_array,
    read_manifest,
    verify_files,
    write_manifest,
)
from jaxablate.checkpoints.placement import sharding_for
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import digest
from jaxablate.models.config import DecoderConfig, QueryScale, RopeConfig
from jaxablate.models.decoder import LAYOUTS, Decoder
from jaxablate.models.layout import build, stack_paths, unstack_paths, weights

ARRAYS = "weights"


def is_stored(folder: str | Path) -> bool:
    """Whether `folder` was written by `save`."""
    return (Path(folder) / NAME).is_file() and not (Path(folder) / "config.json").exists()


def save(
    decoder: Decoder,
    config: DecoderConfig,
    folder: str | Path,
    *,
    source: Mapping[str, Any],
    tokenizer_files_from: str | Path | None = None,
) -> None:
    """Write a decoder so that `load` gives back the same bits.

    `source` says where the weights come from; it is kept as it is. The folder must not exist, and
    it exists only if everything was written.
    """
    arrays = weights(decoder)
    body = {
        "converter": __version__,
        "family": config.family,
        "config": dataclasses.asdict(config),
        "layout": decoder.layout,
        "arrays": {path: describe_array(array) for path, array in sorted(arrays.items())},
        "source": dict(source),
    }
    with new_folder(folder) as partial:
        _write_arrays(partial / ARRAYS, arrays)
        for file in files_beside(tokenizer_files_from):
            shutil.copyfile(file, partial / file.name)
        write_manifest(partial, body)


def load(
    folder: str | Path,
    *,
    dtype: str | None = None,
    mesh: Mesh | None = None,
    layout: str | None = None,
) -> tuple[Decoder, DecoderConfig]:
    """The decoder of a stored folder, in the stored dtype and layout unless others are asked for.

    Raises:
        UserError: naming the file that is missing, foreign, truncated or changed by even one bit.
    """
    decoder, config, _ = open_stored(folder, dtype=dtype, mesh=mesh, layout=layout)
    return decoder, config


def open_stored(
    folder: str | Path,
    *,
    dtype: str | None = None,
    mesh: Mesh | None = None,
    layout: str | None = None,
) -> tuple[Decoder, DecoderConfig, dict[str, Any]]:
    """As `load`, and where the weights came from, as JSON."""
    folder = Path(folder)
    record = read_manifest(folder)
    verify_files(folder, record)
    config = config_of(folder / NAME, record["config"])
    layout = layout or record["layout"]
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    arrays = _read_arrays(folder / ARRAYS, record["arrays"], dtype, mesh)
    if layout != record["layout"]:
        arrays = stack_paths(arrays) if layout == "scan" else unstack_paths(arrays)
    source = {
        "format": "jaxablate",
        "path": str(folder.resolve()),
        "revision": record["source"].get("revision"),
        "weights": digest({"arrays": record["arrays"], "config": record["config"]}),
        "converted_from": record["source"],
    }
    return build(config, arrays, layout=layout), config, source


def _write_arrays(folder: Path, arrays: Mapping[str, jax.Array]) -> None:
    from orbax.checkpoint import v1 as ocp

    ocp.save(str(folder.absolute()), dict(arrays))


def _read_arrays(
    folder: Path, entries: Mapping[str, Any], dtype: str | None, mesh: Mesh | None
) -> dict[str, jax.Array]:
    from orbax.checkpoint import v1 as ocp

    wanted = {}
    for path, entry in entries.items():
        shape = tuple(entry["shape"])
        wanted[path] = jax.ShapeDtypeStruct(
            shape,
            parse_dtype(dtype or entry["dtype"]),
            sharding=sharding_for(path, shape, mesh),
        )
    return ocp.load(str(folder.absolute()), wanted)


def config_of(path: Path, fields: Mapping[str, Any]) -> DecoderConfig:
    """A decoder's config from plain values; `path` is named where they are not this version's."""
    known = {field.name for field in dataclasses.fields(DecoderConfig)}
    if fields.keys() != known:
        odd = ", ".join(sorted(fields.keys() ^ known))
        raise UserError(f"{path}: its config has other fields than this version's ({odd})")
    scale = fields["query_scale"]
    return DecoderConfig(
        **{
            **fields,
            "rope": RopeConfig(**fields["rope"]),
            "query_scale": None if scale is None else QueryScale(**scale),
            "windows": tuple(fields["windows"]),
            "eos_ids": tuple(fields["eos_ids"]),
        }
    )
