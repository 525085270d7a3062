"""Optimisers by name. The learning rate stays outside: a step takes rate * direction off a weight.

Each is an optax transformation that turns a dict of gradients by path into directions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError, unknown

# Root mean square of a Muon direction, that of a typical AdamW one (arXiv 2502.16982, section 2.2).
_MUON_RMS = 0.2


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Which optimiser, with which settings.

    Attributes:
        kind: "adamw", "adafactor", "lion" or "muon". Adafactor scales by nothing but the
            schedule's rate; Muon works on the matrices inside layers, AdamW on everything else.
        weight_decay: pulls matrices to zero by rate * weight_decay; norms and biases are left.
        b1: decay of the first moment (momentum for Muon, the update's blend for Lion).
        b2: decay of the second moment (of the momentum for Lion); not used by Adafactor.
        eps: added to Adam's denominator.
        momentum_dtype: type in which the first moment is kept.
    """

    kind: str = "adamw"
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    momentum_dtype: str = "float32"

    def __post_init__(self):
        if self.kind not in _DIRECTIONS:
            raise unknown("optimiser", self.kind, _DIRECTIONS)
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay must be >= 0, got {self.weight_decay}")
        if not self.eps > 0:
            raise UserError(f"eps must be > 0, got {self.eps}")
        parse_dtype(self.momentum_dtype)


def make(config: OptimiserConfig) -> optax.GradientTransformation:
    """The optimiser of a config."""
    decay = optax.add_decayed_weights(config.weight_decay, mask=decayed)
    return optax.chain(_DIRECTIONS[config.kind](config), decay)


def decayed(weights: Mapping[str, Any]) -> dict[str, bool]:
    """Whether weight decay applies: to matrices, not to norms and biases.

    >>> decayed({"layers/0/mlp/up/weight": 0, "final_norm/weight": 0, "layers/0/mlp/up/bias": 0})
    {'layers/0/mlp/up/weight': True, 'final_norm/weight': False, 'layers/0/mlp/up/bias': False}
    """
    return {path: not ("norm/" in path or path.endswith("/bias")) for path in weights}


def _adam(config: OptimiserConfig) -> optax.GradientTransformation:
    dtype = parse_dtype(config.momentum_dtype)
    return optax.scale_by_adam(config.b1, config.b2, config.eps, mu_dtype=dtype)


def _lion(config: OptimiserConfig) -> optax.GradientTransformation:
    return optax.scale_by_lion(config.b1, config.b2, mu_dtype=parse_dtype(config.momentum_dtype))


def _adafactor(config: OptimiserConfig) -> optax.GradientTransformation:
    """Factored second moments, updates clipped to root mean square 1 (arXiv 1804.04235)."""
    del config
    return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))


def _muon(config: OptimiserConfig) -> optax.GradientTransformation:
    muon = optax.chain(
        optax.contrib.scale_by_muon(
            beta=config.b1,
            mu_dtype=parse_dtype(config.momentum_dtype),
            weight_dimension_numbers=_matrix_axes,
        ),
        optax.stateless(lambda updates, _: jax.tree.map(_to_muon_rms, updates)),
    )
    return optax.partition({"muon": muon, "adam": _adam(config)}, _muon_labels)


def _muon_labels(weights: Mapping[str, Any]) -> dict[str, str]:
    matrices = decayed(weights)
    return {
        path: "muon" if path.startswith("layers/") and matrices[path] else "adam"
        for path in weights
    }


def _matrix_axes(updates: Any) -> Any:
    """The last two axes are a matrix; an axis of stacked layers before them is a batch."""
    return jax.tree.map(
        lambda x: optax.contrib.MuonDimensionNumbers(x.ndim - 1, x.ndim - 2), updates
    )


def _to_muon_rms(update: Array) -> Array:
    return update * (_MUON_RMS * jnp.sqrt(max(update.shape[-2:])))


_DIRECTIONS: dict[str, Callable[[OptimiserConfig], optax.GradientTransformation]] = {
    "adamw": _adam,
    "adafactor": _adafactor,
    "lion": _lion,
    "muon": _muon,
}
