"""Which stored tensor becomes which weight: every name accounted for, every shape and type checked.

All of it is decided from config.json and the files' headers, before any weight is read.
"""

import functools
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from jaxablate.checkpoints.content import check_folder, read_json_file, shown
from jaxablate.checkpoints.index import find_weights
from jaxablate.checkpoints.safetensors import StoredTensor
from jaxablate.checkpoints.stream import Part, Source
from jaxablate.core.errors import UserError, unknown
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import LAYOUTS, Decoder
from jaxablate.models.family import Family, family_of, scale_names
from jaxablate.models.layout import by_path

CONFIG = "config.json"
FLOATS = ("BF16", "F16", "F32", "F64")
FLOATS_8BIT = ("F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Plan:
    """What loading a folder will do: `sources` by path in the layout asked for."""

    config: DecoderConfig
    layout: str
    sources: dict[str, Source]
    report: dict[str, Any]


def read_config(folder: str | Path) -> tuple[Family, DecoderConfig]:
    """The family and the decoder that the folder's config.json describes."""
    path = check_folder(folder) / CONFIG
    hf_config = read_json_file(path)
    try:
        family = family_of(hf_config)
        return family, family.from_hf(hf_config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def plan_load(folder: str | Path, *, layout: str) -> Plan:
    """Decide where each weight comes from; the report counts types and what is not read.

    Raises:
        UserError: naming the tensors that are missing, unexpected, or of a wrong shape or type.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    folder = Path(folder)
    family, config = read_config(folder)
    tensors = find_weights(folder)
    config, copy = _settle_tying(family, config, tensors)
    located = _locate(folder, family, config, tensors)
    scales = _scales(located.values(), tensors)
    reasons = {name: "scale of an 8-bit weight" for fp8 in scales for name in scale_names(fp8)}
    reasons |= dict.fromkeys(copy, "copy of the tied embedding")
    ignored = _account(folder, family, config, tensors.keys() - located.values(), reasons)
    parts = {}
    for path, shape in shapes_of(config).items():
        tensor = tensors[located[path]]
        _check_tensor(tensor, shape)
        parts[path] = Part(tensor, scales.get(tensor.name))
    used = [part.tensor.code for part in parts.values()]
    report = {
        "dtypes": dict(sorted(Counter(used).items())),
        "dequantised": len(scales),
        "tied": config.tied,
        "ignored_tensors": dict(sorted(Counter(ignored).items())),
        "ignored_config_keys": sorted(family.ignored_keys(config.source)),
    }
    return Plan(config, layout, _arrange(parts, layout), report)


def _settle_tying(
    family: Family, config: DecoderConfig, tensors: Mapping[str, StoredTensor]
) -> tuple[DecoderConfig, tuple[str, ...]]:
    """The file decides: its head is used, unless the config ties it and it equals the embedding.

    Then the head's name is given back as well: it is a copy that is not read.
    """
    by_file = family.with_tying_of(config, tensors)
    if by_file.tied or not config.tied:
        return by_file, ()
    located = family.locate(by_file, tensors)
    embedding, head = (tensors[located[f"{end}/weight"]] for end in ("embedding", "head"))
    if not _same(embedding, head):
        return by_file, ()
    return replace(by_file, tied=True), (head.name,)


def _same(one: StoredTensor, other: StoredTensor) -> bool:
    if (one.code, one.shape) != (other.code, other.shape):
        return False
    first, second = one.view(), other.view()
    step = max(1, (1 << 22) // max(1, first[:1].size))
    return all(
        first[row : row + step].tobytes() == second[row : row + step].tobytes()
        for row in range(0, len(first), step)
    )


def _locate(
    folder: Path, family: Family, config: DecoderConfig, tensors: Mapping[str, StoredTensor]
) -> dict[str, str]:
    try:
        return family.locate(config, tensors)
    except UserError as error:
        known = set(family.hf_names(config).values())
        odd = [name for name in tensors if name not in known]
        odd = [name for name in odd if not family.ignored_tensor(config, name)]
        others = f"; it has unexpected {_some(odd)}" if odd else ""
        raise UserError(f"{folder}: {error}{others}") from None


def _scales(names: Any, tensors: Mapping[str, StoredTensor]) -> dict[str, np.float32]:
    """The multiplier of each 8-bit tensor: one number a tensor, product taken in float32."""
    scales = {}
    for name in names:
        if tensors[name].code not in FLOATS_8BIT:
            continue
        scale = tensors.get(scale_names(name).multiplier)
        where = f"{tensors[name].file}: tensor {shown(name)} is {tensors[name].code}"
        if scale is None:
            raise UserError(f"{where} but its {scale_names(name).multiplier} is missing")
        if scale.code not in FLOATS or scale.shape not in ((), (1,)):
            raise UserError(
                f"{where}; its scale must be one number, got {scale.code}{list(scale.shape)}"
            )
        value = np.float32(scale.view().reshape(()))
        if not np.isfinite(value):
            raise UserError(f"{where}; its scale is {value}")
        scales[name] = value
    return scales


def _account(
    folder: Path,
    family: Family,
    config: DecoderConfig,
    unread: Collection[str],
    reasons: Mapping[str, str],
) -> list[str]:
    """Why each tensor that is not read is not needed; one without a reason is an error."""
    why = {name: reasons.get(name) or family.ignored_tensor(config, name) for name in unread}
    odd = sorted(name for name, reason in why.items() if reason is None)
    if odd:
        raise UserError(f"{folder}: tensors that {family.name} does not have: {_some(odd)}")
    return [reason for reason in why.values() if reason]


@functools.lru_cache(maxsize=8)
def shapes_of(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by its path in the layout "loop"."""
    decoder = nnx.eval_shape(lambda: Decoder(config, dtype="float32", layout="loop"))
    return {path: leaf.shape for path, leaf in by_path(nnx.state(decoder)).items()}


def _check_tensor(tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    where = f"{tensor.file}: tensor {shown(tensor.name)}"
    if tensor.code not in (*FLOATS, *FLOATS_8BIT):
        raise UserError(f"{where} is {tensor.code}, wanted one of {', '.join(FLOATS)}")
    if tensor.shape != shape:
        turned = " (transposed?)" if tensor.shape == shape[::-1] else ""
        raise UserError(f"{where} has shape {list(tensor.shape)}, wanted {list(shape)}{turned}")


def _arrange(parts: dict[str, Part], layout: str) -> dict[str, Source]:
    """Sources in the order of the file; in the layout "scan", one for all layers."""
    ordered = sorted(parts, key=lambda path: (parts[path].tensor.file, parts[path].tensor.start))
    if layout != "scan":
        return {path: Source((parts[path],)) for path in ordered}
    layers: dict[str, dict[int, Part]] = {}
    sources = {}
    for path in ordered:
        first, _, rest = path.partition("/")
        if first != "layers":
            sources[path] = Source((parts[path],))
            continue
        number, _, rest = rest.partition("/")
        layers.setdefault(f"layers/{rest}", {})[int(number)] = parts[path]
    for path, by_number in layers.items():
        in_order = tuple(by_number[number] for number in sorted(by_number))
        sources[path] = Source(in_order, stacked=True)
    return sources


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(shown(name) for name in names[:5]) + more
