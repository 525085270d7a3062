"""Low-rank updates of a decoder's projections (LoRA), and the decoder that applies them.

The arrays are a pytree beside the weights, by the path of the projection and whatever the layout
of the decoder, so that a gradient with respect to them is `jax.grad` of an ordinary function.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from jaxablate.core.errors import UserError, unknown
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Block, Decoder, abstract
from jaxablate.models.layers import Linear, LowRank
from jaxablate.models.layout import build, by_path, weights

# Name of a target -> the projection's path inside a block.
PROJECTIONS = {
    "q": "attention/q",
    "k": "attention/k",
    "v": "attention/v",
    "o": "attention/o",
    "gate": "mlp/gate",
    "up": "mlp/up",
    "down": "mlp/down",
}

_PATH = re.compile(r"layers/(0|[1-9]\d*)/(.+)")


class Factors(NamedTuple):
    """The update of one projection is scale * lora_b lora_a."""

    lora_a: Float[Array, "*stack R in"]
    lora_b: Float[Array, "*stack out R"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["factors"],
    meta_fields=["rank", "alpha", "dropout"],
)
@dataclass(frozen=True, kw_only=True)
class LoRA:
    """The factors of every target, by a path such as "layers/3/attention/q"."""

    factors: dict[str, Factors]
    rank: int
    alpha: float
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.alpha / self.rank


def flatten(lora: LoRA) -> dict[str, Array]:
    """The factors by paths such as "layers/3/attention/q/lora_a", as training names its weights."""
    return {
        f"{path}/{name}": factor
        for path, factors in lora.factors.items()
        for name, factor in factors._asdict().items()
    }


def unflatten(
    arrays: Mapping[str, Array], *, rank: int, alpha: float, dropout: float = 0.0
) -> LoRA:
    """The LoRA of `flatten`'s arrays.

    Raises:
        UserError: for a path that is no factor's, or a factor without the other one.
    """
    pairs: dict[str, dict[str, Array]] = {}
    for path, array in arrays.items():
        target, _, name = path.rpartition("/")
        if name not in Factors._fields:
            raise UserError(f"{path!r} is no factor of a LoRA; wanted <target>/lora_a or lora_b")
        pairs.setdefault(target, {})[name] = array
    alone = next((target for target, pair in pairs.items() if len(pair) < 2), None)
    if alone is not None:
        raise UserError(f"LoRA target {alone} has only {', '.join(pairs[alone])}")
    factors = {target: Factors(**pair) for target, pair in pairs.items()}
    return LoRA(factors=factors, rank=rank, alpha=alpha, dropout=dropout)


def split_path(path: str) -> tuple[int, str]:
    """The layer and the projection of a target.

    >>> split_path("layers/3/attention/q")
    (3, 'attention/q')
    """
    match = _PATH.fullmatch(path)
    if match is None or match[2] not in PROJECTIONS.values():
        raise unknown(
            "LoRA target", path, (f"layers/<layer>/{name}" for name in PROJECTIONS.values())
        )
    return int(match[1]), match[2]


@cache
def shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """(out, in) of every projection, read off the decoder itself; nothing is allocated."""
    arrays = by_path(abstract(config, dtype="float32", layout="scan"))
    found = {name: arrays[f"layers/{name}/weight"].shape for name in PROJECTIONS.values()}
    return {name: (out, size_in) for name, (_, out, size_in) in found.items()}


def check_fits(lora: LoRA, config: DecoderConfig) -> None:
    """Raises `UserError` that names the first target which is not this decoder's."""
    if not lora.factors:
        raise UserError("this LoRA has no target")
    for path, factors in lora.factors.items():
        layer, projection = split_path(path)
        if layer >= config.num_layers:
            raise UserError(f"LoRA target {path}: the decoder has {config.num_layers} layers")
        out, size_in = shapes(config)[projection]
        wanted = (lora.rank, size_in), (out, lora.rank)
        got = factors.lora_a.shape, factors.lora_b.shape
        if got != wanted:
            raise UserError(
                f"LoRA target {path} must have lora_a {list(wanted[0])} and lora_b "
                f"{list(wanted[1])}, got {list(got[0])} and {list(got[1])}"
            )


def attach(decoder: Decoder, lora: LoRA, *, dropout_key: Array | None = None) -> Decoder:
    """The decoder with the updates in its forward; it shares the weights of the one given.

    Both layouts take any set of targets: in "scan", layers that have no update get one of zeros.
    Dropout acts only where a key is given. The result is for running and for gradients; `merge`
    is for storing.
    """
    check_fits(lora, decoder.config)
    graph, state = nnx.split(decoder)
    if any("/update/" in path for path in by_path(state)):
        raise UserError("this decoder has LoRA attached already")
    attached = nnx.merge(graph, state)
    for linear, factors, key in _updates(attached, lora, dropout_key):
        update = LowRank(*factors, scale=lora.scale, dropout=lora.dropout, key=key)
        linear.update = nnx.data(update)
    return attached


def merge(decoder: Decoder, lora: LoRA) -> Decoder:
    """The decoder with W + scale * B A as weights: summed in float32, kept in W's dtype."""
    return _shift(decoder, lora, lora.scale)


def unmerge(decoder: Decoder, lora: LoRA) -> Decoder:
    """Takes a merged update out again, up to the rounding of the merged weights.

    Where the exact weights are needed, keep the decoder that was merged: `merge` leaves it alone.
    """
    return _shift(decoder, lora, -lora.scale)


def _shift(decoder: Decoder, lora: LoRA, scale: float) -> Decoder:
    check_fits(lora, decoder.config)
    arrays = weights(decoder)
    if decoder.layout == "scan":
        updates = {f"layers/{p}": stacked(lora, p, decoder.config) for p in targeted(lora)}
    else:
        updates = lora.factors
    for path, factors in updates.items():
        arrays[f"{path}/weight"] = _shifted(arrays[f"{path}/weight"], factors, scale)
    return build(decoder.config, arrays, layout=decoder.layout)


def _shifted(
    weight: Float[Array, "*stack out in"], factors: Factors, scale: float
) -> Float[Array, "*stack out in"]:
    lora_a, lora_b = (factor.astype(jnp.float32) for factor in factors)
    change = scale * jnp.matmul(lora_b, lora_a, precision=lax.Precision.HIGHEST)
    return (weight.astype(jnp.float32) + change).astype(weight.dtype)


def targeted(lora: LoRA) -> list[str]:
    """The projections that have an update in some layer, in the order of a block."""
    present = {split_path(path)[1] for path in lora.factors}
    return [projection for projection in PROJECTIONS.values() if projection in present]


def stacked(lora: LoRA, projection: str, config: DecoderConfig) -> Factors:
    """One projection's factors for all layers in one array each, zeros where there are none."""
    some = next(f for path, f in lora.factors.items() if split_path(path)[1] == projection)
    zeros = Factors(*map(jnp.zeros_like, some))
    paths = [f"layers/{layer}/{projection}" for layer in range(config.num_layers)]
    each = [lora.factors.get(path, zeros) for path in paths]
    return Factors(jnp.stack([f.lora_a for f in each]), jnp.stack([f.lora_b for f in each]))


def key_of(key: Array, path: str) -> Array:
    """A key for one target that does not depend on which others there are."""
    return jax.random.fold_in(key, zlib.crc32(path.encode()))


def _updates(
    decoder: Decoder, lora: LoRA, key: Array | None
) -> Iterator[tuple[Linear, Factors, Array | None]]:
    if isinstance(decoder.layers, Block):
        layers = range(decoder.config.num_layers)
        for projection in targeted(lora):
            keys = None
            if key is not None:
                keys = jnp.stack([key_of(key, f"layers/{n}/{projection}") for n in layers])
            linear = _linear(decoder.layers, projection)
            yield linear, stacked(lora, projection, decoder.config), keys
        return
    for path, factors in lora.factors.items():
        layer, projection = split_path(path)
        own_key = None if key is None else key_of(key, path)
        yield _linear(decoder.layers[layer], projection), factors, own_key


def _linear(block: Block, projection: str) -> Linear:
    part, name = projection.split("/")
    return getattr(getattr(block, part), name)
