"""One table of weight names, read in both directions: Hugging Face's tensors and our paths."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxablate.models.config import DecoderConfig

Axes = tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class KeyRule:
    """A tensor's name in a file, its path in the decoder, and what its axes mean.

    `{i}` stands for the layer in both names. `aliases` are other names a file may use.
    `needs` is the flag of `DecoderConfig` without which a decoder has no such weight.
    """

    hf: str
    ours: str
    axes: Axes
    needs: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def per_layer(self) -> bool:
        """There is one such tensor in every layer."""
        return "{i}" in self.hf

    def names(self, layer: int) -> tuple[str, ...]:
        """The names a file may use, the one we write first."""
        return tuple(name.replace("{i}", str(layer)) for name in (self.hf, *self.aliases))

    def path(self, layer: int) -> str:
        """Our path, such as "layers/3/attention/q/weight"."""
        return self.ours.replace("{i}", str(layer))


class ScaleNames(NamedTuple):
    """Tensors beside an FP8 weight.

    The matrix is the weight times `multiplier`; `unused` is for products in FP8.
    """

    multiplier: str
    unused: str


def scale_names(hf_weight: str) -> ScaleNames:
    """Which tensors scale an FP8 weight.

    >>> scale_names("model.layers.0.mlp.up_proj.weight").multiplier
    'model.layers.0.mlp.up_proj.weight_scale_inv'
    """
    stem = hf_weight.removesuffix(".weight")
    return ScaleNames(f"{stem}.weight_scale_inv", f"{stem}.activation_scale")


_EMBEDDING: Axes = ("vocab", "embed")
_WHOLE: Axes = (None,)


def _projection(hf: str, ours: str, axes: Axes, bias: str) -> tuple[KeyRule, KeyRule]:
    hf, ours = f"model.layers.{{i}}.{hf}", f"layers/{{i}}/{ours}"
    # A bias along the model's width is added to whole rows: it is not split.
    along_output: Axes = (None if axes[0] == "embed" else axes[0],)
    return (
        KeyRule(hf=f"{hf}.weight", ours=f"{ours}/weight", axes=axes),
        KeyRule(hf=f"{hf}.bias", ours=f"{ours}/bias", axes=along_output, needs=bias),
    )


def _norm(hf: str, ours: str, needs: str = "") -> KeyRule:
    hf, ours = f"model.layers.{{i}}.{hf}.weight", f"layers/{{i}}/{ours}/weight"
    return KeyRule(hf=hf, ours=ours, axes=_WHOLE, needs=needs)


RULES = (
    KeyRule(hf="model.embed_tokens.weight", ours="embedding/weight", axes=_EMBEDDING),
    _norm("input_layernorm", "attention_norm"),
    *_projection("self_attn.q_proj", "attention/q", ("heads", "embed"), "qkv_bias"),
    *_projection("self_attn.k_proj", "attention/k", ("kv_heads", "embed"), "qkv_bias"),
    *_projection("self_attn.v_proj", "attention/v", ("kv_heads", "embed"), "qkv_bias"),
    *_projection("self_attn.o_proj", "attention/o", ("embed", "heads"), "o_bias"),
    _norm("self_attn.q_norm", "attention/q_norm", "qk_norm"),
    _norm("self_attn.k_norm", "attention/k_norm", "qk_norm"),
    _norm("post_attention_layernorm", "mlp_norm"),
    *_projection("mlp.gate_proj", "mlp/gate", ("mlp", "embed"), "mlp_bias"),
    *_projection("mlp.up_proj", "mlp/up", ("mlp", "embed"), "mlp_bias"),
    *_projection("mlp.down_proj", "mlp/down", ("embed", "mlp"), "mlp_bias"),
    KeyRule(hf="model.norm.weight", ours="final_norm/weight", axes=_WHOLE),
    KeyRule(hf="lm_head.weight", ours="head/weight", axes=_EMBEDDING, needs="untied"),
)


def rules_of(config: DecoderConfig) -> list[KeyRule]:
    """The rules of the weights that this decoder has."""
    return [rule for rule in RULES if not rule.needs or getattr(config, rule.needs)]


def _axes_by_path() -> dict[str, Axes]:
    axes = {rule.ours.replace("{i}/", ""): rule.axes for rule in RULES}
    for path, (out, *rest) in list(axes.items()):
        if path.startswith("layers/") and rest:
            projection = path.removesuffix("weight")
            axes |= {f"{projection}lora_a": (None, *rest), f"{projection}lora_b": (out, None)}
    return axes


_AXES_BY_PATH = _axes_by_path()


def logical_axes(path: str) -> Axes:
    """What each axis of the weight at `path` means; the axis of stacked layers has no name.

    The factors of a low-rank update have the axes of the weight beside them, and the rank.

    >>> logical_axes("layers/3/attention/q/weight")
    ('heads', 'embed')
    >>> logical_axes("layers/attention/q/weight")
    (None, 'heads', 'embed')
    >>> logical_axes("layers/3/attention/q/lora_a"), logical_axes("layers/3/attention/q/lora_b")
    ((None, 'embed'), ('heads', None))
    """
    parts = path.split("/")
    if parts[0] != "layers":
        return _AXES_BY_PATH[path]
    if parts[1].isdigit():
        return _AXES_BY_PATH["/".join(parts[:1] + parts[2:])]
    return (None, *_AXES_BY_PATH[path])
