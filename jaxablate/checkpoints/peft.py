"""LoRA as PEFT stores it: adapter_config.json beside adapter_model.safetensors.

Reading is strict: a setting that would change the forward in a way we do not have, and a tensor
that is missing, too much or of another shape, is an error that names it.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxablate.checkpoints.commit import check_free, new_folder
from jaxablate.checkpoints.content import check_folder, read_json_file, shown
from jaxablate.checkpoints.safetensors import StoredTensor, read_header, write_file
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import write_json
from jaxablate.models.config import DecoderConfig, check_positive, check_size, shorten
from jaxablate.models.hf_keys import number
from jaxablate.models.keyrules import rules_of
from jaxablate.models.lora import PROJECTIONS, Factors, LoRA, check_fits, shapes, split_path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_LARGEST_RANK = 1 << 16
_PREFIX = "base_model.model."

_READ = {
    *("peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "layers_to_transform"),
    *("layers_pattern", "bias", "init_lora_weights"),
}

# Settings that say nothing about what the tensors do; every other one has to be off.
_IGNORED = {
    *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "peft_version"),
    *("inference_mode", "megatron_core", "qalora_group_size", "runtime_config", "loftq_config"),
}

# Other starts (PiSSA, OLoRA, LoftQ) change the weights that the tensors are added to.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal")


def save_peft(
    lora: LoRA, config: DecoderConfig, folder: str | Path, *, base_model: str | None = None
) -> None:
    """Write a new folder that `peft.PeftModel.from_pretrained` loads; it appears whole or not.

    `base_model` is the name of the checkpoint the LoRA belongs to, for the reader of the file.
    """
    check_free(folder)
    check_fits(lora, config)
    if jax.process_count() > 1:
        raise UserError("an export needs all weights in one process; run it on one host")
    modules = _modules(config)
    tensors = {
        name: np.asarray(array)
        for path, factors in lora.factors.items()
        for name, array in zip(_tensor_names(modules[path]), factors, strict=True)
    }
    with new_folder(folder) as partial:
        write_file(partial / WEIGHTS, tensors)
        write_json(partial / CONFIG, _to_peft(lora, modules, base_model))


def load_peft(folder: str | Path, config: DecoderConfig, *, dtype: str = "float32") -> LoRA:
    """The LoRA of a folder that PEFT, or `save_peft`, has written for this decoder.

    Raises:
        UserError: naming the setting or the tensors, unless each is known and of the right shape,
            and every value is finite.
    """
    folder = check_folder(folder)
    if not (folder / WEIGHTS).exists() and (folder / "adapter_model.bin").exists():
        raise UserError(f"{folder}: adapter_model.bin is a pickle; wanted {WEIGHTS}")
    settings = read_json_file(folder / CONFIG)
    modules = _modules(config)
    try:
        lora = _empty_lora(settings)
        paths = _targets(settings, modules)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from None
    stored = read_header(folder / WEIGHTS)
    names = {path: _tensor_names(modules[path]) for path in paths}
    _check_names(folder / WEIGHTS, [name for pair in names.values() for name in pair], stored)
    factors = {}
    for path, (name_a, name_b) in names.items():
        out, size_in = shapes(config)[split_path(path)[1]]
        lora_a = _read(stored[name_a], (lora.rank, size_in), dtype)
        factors[path] = Factors(lora_a, _read(stored[name_b], (out, lora.rank), dtype))
    return LoRA(factors=factors, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout)


def _modules(config: DecoderConfig) -> dict[str, str]:
    """Path of a projection -> Hugging Face's name of the module."""
    matrices = {f"layers/{{i}}/{name}/weight" for name in PROJECTIONS.values()}
    return {
        rule.path(layer).removesuffix("/weight"): rule.names(layer)[0].removesuffix(".weight")
        for layer in range(config.num_layers)
        for rule in rules_of(config)
        if rule.ours in matrices
    }


def _tensor_names(module: str) -> tuple[str, str]:
    return f"{_PREFIX}{module}.lora_A.weight", f"{_PREFIX}{module}.lora_B.weight"


def _to_peft(lora: LoRA, modules: Mapping[str, str], base_model: str | None) -> dict[str, Any]:
    layers = sorted({split_path(path)[0] for path in lora.factors})
    names = sorted({modules[path].rpartition(".")[2] for path in lora.factors})
    if len(layers) * len(names) != len(lora.factors):  # not the same projections in each layer
        layers, names = None, sorted(modules[path] for path in lora.factors)
    elif len(layers) * len(PROJECTIONS) == len(modules):
        layers = None  # all of them
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": names,
        "layers_to_transform": layers,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _empty_lora(settings: Any) -> LoRA:
    if not isinstance(settings, dict):
        raise UserError(f"must hold an object, got {shorten(settings)}")
    if settings.get("peft_type") != "LORA":
        raise UserError(f"peft_type must be 'LORA', got {shorten(settings.get('peft_type'))}")
    for key, value in settings.items():
        if key not in _READ | _IGNORED and value not in (None, False, {}, []):
            raise UserError(f"{shown(key)} must be off or absent, got {shorten(value)}")
    if settings.get("bias", "none") != "none":
        raise UserError(f"bias must be 'none', got {shorten(settings['bias'])}")
    start = settings.get("init_lora_weights", True)
    if not any(start is plain or start == plain for plain in _PLAIN_STARTS):
        raise UserError(
            f"init_lora_weights {shorten(start)} changes the base weights; wanted true, false or "
            "'gaussian'"
        )
    check_size("r", settings.get("r"), _LARGEST_RANK)
    alpha = number("lora_alpha", settings.get("lora_alpha"))
    check_positive("lora_alpha", alpha)
    dropout = number("lora_dropout", settings.get("lora_dropout", 0.0))
    if not 0 <= dropout < 1:
        raise UserError(f"lora_dropout must be in [0, 1), got {dropout}")
    return LoRA(factors={}, rank=settings["r"], alpha=alpha, dropout=dropout)


def _targets(settings: Mapping[str, Any], modules: Mapping[str, str]) -> list[str]:
    """The paths that PEFT would adapt: modules named in whole or by their end, in some layers."""
    wanted = settings.get("target_modules")
    if wanted == "all-linear":
        wanted = sorted({module.rpartition(".")[2] for module in modules.values()})
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"target_modules must be a list of names, got {shorten(wanted)}")
    layers = _layers(settings, 1 + max(split_path(path)[0] for path in modules))
    found: dict[str, None] = {}
    for name in wanted:
        hits = [
            path
            for path, module in modules.items()
            if module == name or module.endswith(f".{name}")
        ]
        if not hits:
            known = {module.rpartition(".")[2] for module in modules.values()}
            raise unknown("target module", name, known)
        found |= dict.fromkeys(path for path in hits if split_path(path)[0] in layers)
    if not found:
        raise UserError("target_modules and layers_to_transform name no module of this decoder")
    return [path for path in modules if path in found]


def _layers(settings: Mapping[str, Any], count: int) -> set[int]:
    pattern = settings.get("layers_pattern")
    if pattern not in (None, [], "", "layers", ["layers"]):
        raise UserError(f"layers_pattern must be 'layers' or null, got {shorten(pattern)}")
    value = settings.get("layers_to_transform")
    if value is None:
        return set(range(count))
    for layer in (layers := value if isinstance(value, list) else [value]):
        if type(layer) is not int or not 0 <= layer < count:
            raise UserError(
                f"layers_to_transform must name layers 0 to {count - 1}, got {shorten(layer)}"
            )
    return set(layers)


def _check_names(file: Path, wanted: Collection[str], stored: Collection[str]) -> None:
    wrong = {
        "lacks": sorted(set(wanted) - set(stored)),
        f"does not fit {CONFIG} with": sorted(set(stored) - set(wanted)),
    }
    problems = [
        f"{verb} {', '.join(map(shown, names[:5]))}"
        + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        for verb, names in wrong.items()
        if names
    ]
    if problems:
        raise UserError(f"{file}: {'; '.join(problems)}")


def _read(tensor: StoredTensor, shape: tuple[int, int], dtype: str) -> jax.Array:
    where = f"{tensor.file}: tensor {shown(tensor.name)}"
    if tensor.shape != shape:
        raise UserError(f"{where} must have shape {list(shape)}, got {list(tensor.shape)}")
    if tensor.code not in ("F32", "F16", "BF16"):
        raise UserError(f"{where} must be F32, F16 or BF16, got {tensor.code}")
    values = tensor.view().astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{where} has values that are not finite")
    return jnp.asarray(values, parse_dtype(dtype))
