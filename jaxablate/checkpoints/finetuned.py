"""Opens what a finetuning run saved as a model: the trained weights over those of its base.

A checkpoint of training holds only what was trained. The rest, and the tokenizer, are in the base
checkpoint, which must still be, bit for bit, the one that the run started from.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from jaxtyping import Array

from jaxablate.checkpoints.content import check_folder, shown
from jaxablate.checkpoints.hub import resolve
from jaxablate.checkpoints.manifest import NAME, describe_array, read_manifest
from jaxablate.checkpoints.placement import sharding_for, whole
from jaxablate.checkpoints.pretrained import open_pretrained
from jaxablate.checkpoints.step_folder import (
    FORMAT,
    entries_of,
    read_arrays,
    read_step,
    step_of,
)
from jaxablate.checkpoints.store import config_of
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest, read_json
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import LAYOUTS, Decoder
from jaxablate.models.layout import build, stack_paths, unstack_paths, weights
from jaxablate.models.lora import Factors, LoRA, merge
from jaxablate.runs.folder import TRAINING

SUMMARY = "summary.json"
PARAMS = "params/"


class _Place(NamedTuple):
    """A saved step, and the run that it belongs to."""

    step: Path
    run: Path
    stop_reason: str


def is_finetuned(folder: str | Path) -> bool:
    """Whether `folder` is a finetuning run or one of its saved steps."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict):
        return step_of(folder.name) is not None and folder.is_dir()
    record = manifest.get("record")
    is_step = isinstance(record, dict) and record.get("format") == FORMAT
    return is_step or manifest.get("kind") in TRAINING


def open_finetuned(
    folder: str | Path, *, dtype: str, mesh: Mesh | None = None, layout: str = "loop"
) -> tuple[Decoder, DecoderConfig, dict[str, Any]]:
    """The finetuned decoder, its config, and where the weights came from.

    A run gives the checkpoint that its summary names as chosen; LoRA is merged into the weights.
    The third is JSON: `path` and `run`, `step`, `mask` of the training, `stop_reason`, `base` (as
    `open_checkpoint` describes it), and `weights`, one digest of base and trained weights.

    Raises:
        UserError: when the run is not done, a file was changed, or the base is another one.
    """
    place = _find(check_folder(folder))
    saved = read_step(place.step)
    model = _model(place.step)
    trained = _read_params(place.step, model, mesh)
    base, config, base_source = _open_base(place.step, model, dtype, mesh)
    source = {
        "format": "jaxablate-finetuned",
        "path": str(place.run.resolve()),
        "run": place.run.resolve().name,
        "step": saved.step,
        "mask": model["mask"],
        "weights": _digest(place.step, model, trained, base_source),
        "base": base_source,
        "stop_reason": place.stop_reason,
    }
    if model["kind"] == "lora":
        decoder = merge(base, _lora(trained, model["lora"]))
    else:
        decoder = _replace(base, trained, parse_dtype(dtype))
    return _in_layout(decoder, layout), config, source


def read_lora(folder: str | Path) -> tuple[LoRA, DecoderConfig, str]:
    """The factors that a run trained, the decoder they belong to, and the name of its checkpoint.

    Raises:
        UserError: as `open_finetuned`, and for a run that trained the weights themselves.
    """
    step = _find(check_folder(folder)).step
    read_step(step)
    model = _model(step)
    if model["kind"] != "lora":
        raise UserError(f"{folder}: trained the weights themselves, so there are no LoRA factors")
    factors = _lora(_read_params(step, model, None), model["lora"])
    return factors, config_of(step / NAME, model["config"]), model["base"]["path"]


def dtype_of(folder: str | Path) -> str:
    """The type that the run computed in."""
    return _model(_find(check_folder(folder)).step)["dtype"]


def _find(folder: Path) -> _Place:
    manifest = read_json(folder / NAME)
    if isinstance(manifest, dict) and manifest.get("kind") in TRAINING:
        return _chosen(folder, manifest)
    run = folder.resolve().parent.parent
    summary = run / SUMMARY
    if not is_finetuned(run):
        return _Place(folder, folder, "unknown")
    return _Place(folder, run, read_json(summary)["stop_reason"] if summary.exists() else "running")


def _chosen(run: Path, manifest: Mapping[str, Any]) -> _Place:
    if manifest.get("status") != "done":
        raise UserError(
            f"{run}: this finetuning run is {shown(manifest.get('status'))}, wanted one that is "
            "done; go on with it, or name one of its checkpoints"
        )
    summary = read_json(run / SUMMARY)
    try:
        name, reason = summary["checkpoints"]["chosen"], summary["stop_reason"]
    except (KeyError, TypeError):
        raise UserError(f"{run / SUMMARY}: does not name a chosen checkpoint") from None
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{run / SUMMARY}: chose {shown(name)}, wanted a checkpoint of this run")
    return _Place(check_folder(run / name), run, reason)


def _model(step: Path) -> dict[str, Any]:
    model = read_manifest(step, format=FORMAT)["record"].get("model")
    needed = {"kind", "base", "layout", "lora", "mask", "dtype"}
    if not isinstance(model, dict) or not needed <= model.keys():
        raise UserError(f"{step}: its record does not describe a finetuned model")
    if model["kind"] not in ("full", "lora") or model["layout"] not in LAYOUTS:
        raise UserError(
            f"{step}: holds a model of kind {shown(model['kind'])} in layout "
            f"{shown(model['layout'])}, which this version does not know"
        )
    return model


def _read_params(step: Path, model: Mapping[str, Any], mesh: Mesh | None) -> dict[str, Array]:
    wanted = {}
    for name, entry in entries_of(step).items():
        if name.startswith(PARAMS):
            shape, path = tuple(entry["shape"]), name.removeprefix(PARAMS)
            place = whole(mesh) if model["kind"] == "lora" else sharding_for(path, shape, mesh)
            wanted[name] = jax.ShapeDtypeStruct(shape, entry["dtype"], sharding=place)
    found = read_arrays(step, wanted, some=True)
    return {name.removeprefix(PARAMS): array for name, array in found.items()}


def _open_base(
    step: Path, model: Mapping[str, Any], dtype: str, mesh: Mesh | None
) -> tuple[Decoder, DecoderConfig, dict[str, Any]]:
    path, wanted = model["base"]["path"], model["base"]["weights"]
    revision = None if Path(path).exists() else model["base"].get("revision")
    try:
        folder = resolve(path, revision=revision)
    except UserError as error:
        raise UserError(f"{step}: its base checkpoint cannot be opened: {error}") from None
    opener = open_finetuned if is_finetuned(folder) else open_pretrained
    opened = opener(folder, dtype=dtype, mesh=mesh, layout=model["layout"])
    if opened[2]["weights"] != wanted:
        raise UserError(
            f"{step}: was trained from weights {shown(wanted[:16])}, but its base {path} now has "
            f"{shown(opened[2]['weights'][:16])}"
        )
    return opened


def _digest(
    step: Path,
    model: Mapping[str, Any],
    trained: Mapping[str, Array],
    base: Mapping[str, Any],
) -> str:
    entries = entries_of(step)
    arrays = {}
    for path, array in trained.items():
        found = entries[PARAMS + path]["sha256"] or describe_array(array)["sha256"]
        if found is None:
            raise UserError(f"{step}: its weights have no digest; open it in one process")
        arrays[path] = found
    lora = model["lora"] and {name: model["lora"][name] for name in ("rank", "alpha")}
    parts = {"arrays": arrays, "base": base["weights"], "kind": model["kind"], "lora": lora}
    return digest(parts)


def _lora(trained: Mapping[str, Array], settings: Mapping[str, Any]) -> LoRA:
    paths = {path.rpartition("/")[0] for path in trained}
    factors = {p: Factors(trained[f"{p}/lora_a"], trained[f"{p}/lora_b"]) for p in sorted(paths)}
    return LoRA(factors=factors, rank=settings["rank"], alpha=settings["alpha"])


def _replace(base: Decoder, trained: Mapping[str, Array], dtype: str) -> Decoder:
    arrays = weights(base)
    unknown = sorted(trained.keys() - arrays.keys())
    if unknown:
        raise UserError(f"the checkpoint has weights that its base does not have: {unknown[:5]}")
    arrays |= {path: array.astype(dtype) for path, array in trained.items()}
    return build(base.config, arrays, layout=base.layout)


def _in_layout(decoder: Decoder, layout: str) -> Decoder:
    if layout == decoder.layout:
        return decoder
    change = stack_paths if layout == "scan" else unstack_paths
    return build(decoder.config, change(weights(decoder)), layout=layout)
