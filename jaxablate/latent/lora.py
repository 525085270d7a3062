"""LoRA (arXiv 2106.09685): which projections, fresh factors, merging, and what is trainable.

`models.lora.attach` runs a decoder with the factors beside its weights; `checkpoints.peft` reads
and writes them as PEFT does.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxablate.core.errors import UserError, unknown
from jaxablate.models.config import DecoderConfig, check_positive, check_size
from jaxablate.models.lora import (
    PROJECTIONS,
    Factors,
    LoRA,
    attach,
    check_fits,
    key_of,
    merge,
    shapes,
    split_path,
    targeted,
    unmerge,
)

__all__ = [
    "ALL_LINEAR",
    "Factors",
    "LoRA",
    "LoRAConfig",
    "Row",
    "attach",
    "check_trainable",
    "describe",
    "expected_parameters",
    "init",
    "merge",
    "parameter_table",
    "resolve_targets",
    "unmerge",
]

ALL_LINEAR = "all-linear"
LARGEST_RANK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """The update has rank `rank` and is multiplied by alpha / rank.

    Attributes:
        rank: inner width of the update.
        alpha: numerator of the scale.
        targets: some of q, k, v, o, gate, up, down; or "all-linear" alone, which is all seven.
        first_layers: only layers 0 to first_layers - 1; None is all of them.
        dropout: share of the update's inputs that a training step sets to zero.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = (ALL_LINEAR,)
    first_layers: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_size("LoRA rank", self.rank, LARGEST_RANK)
        check_positive("LoRA alpha", self.alpha)
        if not 0 <= self.dropout < 1:
            raise UserError(f"LoRA dropout must be in [0, 1), got {self.dropout}")
        if not self.targets:
            raise UserError(f"LoRA targets is empty; name some of {', '.join(PROJECTIONS)}")
        for name in self.targets:
            if name not in PROJECTIONS and name != ALL_LINEAR:
                raise unknown("LoRA target", name, [*PROJECTIONS, ALL_LINEAR])
        if len(set(self.targets)) < len(self.targets) or (
            ALL_LINEAR in self.targets and len(self.targets) > 1
        ):
            raise UserError(f"LoRA targets names a projection twice: {', '.join(self.targets)}")


def resolve_targets(settings: LoRAConfig, config: DecoderConfig) -> tuple[str, ...]:
    """The path of every target, layer by layer; never empty, and exactly the layers asked for.

    Raises `UserError` for more layers than the decoder has.
    """
    count = config.num_layers if settings.first_layers is None else settings.first_layers
    check_size("LoRA first_layers", count, config.num_layers)
    names = PROJECTIONS if settings.targets == (ALL_LINEAR,) else settings.targets
    chosen = [path for name, path in PROJECTIONS.items() if name in names]
    paths = tuple(f"layers/{layer}/{path}" for layer in range(count) for path in chosen)
    assert paths, "no target"
    assert {split_path(path)[0] for path in paths} == set(range(count))
    assert len(paths) == count * len(names)
    return paths


def init(settings: LoRAConfig, config: DecoderConfig, *, key: Array) -> LoRA:
    """Float32 factors as PEFT starts them: A uniform in +-1/sqrt(in), B zero: no update yet.

    Each target draws from a key of its own, so a LoRA on fewer layers starts as a part of this.
    """
    factors = {}
    for path in resolve_targets(settings, config):
        out, size_in = shapes(config)[split_path(path)[1]]
        bound = 1 / math.sqrt(size_in)
        shape = (settings.rank, size_in)
        lora_a = jax.random.uniform(key_of(key, path), shape, minval=-bound, maxval=bound)
        factors[path] = Factors(lora_a, jnp.zeros((out, settings.rank)))
    return LoRA(factors=factors, rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout)


class Row(NamedTuple):
    """One line of the table of trainable parameters."""

    module: str
    layers: tuple[int, ...]
    parameters: int


def parameter_table(lora: LoRA) -> list[Row]:
    """How many parameters each projection trains, and in which layers."""
    rows = []
    for projection in targeted(lora):
        sizes = {}
        for path, factors in lora.factors.items():
            layer, name = split_path(path)
            if name == projection:
                sizes[layer] = sum(math.prod(factor.shape) for factor in factors)
        rows.append(Row(projection, tuple(sorted(sizes)), sum(sizes.values())))
    return rows


def expected_parameters(settings: LoRAConfig, config: DecoderConfig) -> int:
    """Rank * (in + out), summed over the targets."""
    paths = resolve_targets(settings, config)
    return settings.rank * sum(sum(shapes(config)[split_path(path)[1]]) for path in paths)


def check_trainable(lora: LoRA, settings: LoRAConfig, config: DecoderConfig) -> int:
    """The number of trainable parameters; raises `UserError` unless they are those asked for."""
    check_fits(lora, config)
    wanted, got = set(resolve_targets(settings, config)), set(lora.factors)
    if wanted != got:
        raise UserError(
            f"LoRA on other targets than the settings name: without {sorted(wanted - got)[:5]}, "
            f"beyond them {sorted(got - wanted)[:5]}"
        )
    count = sum(row.parameters for row in parameter_table(lora))
    expected = expected_parameters(settings, config)
    if count != expected:
        raise UserError(f"LoRA has {count:,} parameters, its settings make {expected:,}")
    return count


def describe(lora: LoRA) -> str:
    """The resolved targets and their parameters, as text for a log."""
    rows = parameter_table(lora)
    lines = [f"LoRA rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}"]
    lines += [
        f"  {row.module:<12} {row.parameters:>13,}  {len(row.layers)} layers: {_runs(row.layers)}"
        for row in rows
    ]
    return "\n".join([*lines, f"  {'total':<12} {sum(row.parameters for row in rows):>13,}"])


def _runs(layers: tuple[int, ...]) -> str:
    """Layers as ranges.

    >>> _runs((0, 1, 2, 5))
    '0-2 5'
    """
    starts = [layer for layer in layers if layer - 1 not in layers]
    ends = [layer for layer in layers if layer + 1 not in layers]
    runs = zip(starts, ends, strict=True)
    return " ".join(f"{low}-{high}" if high > low else str(low) for low, high in runs)
