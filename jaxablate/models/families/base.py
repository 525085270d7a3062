"""What a family is: how it reads and writes Hugging Face's config, and its weights' names."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.models import hf_rope, keyrules
from jaxablate.models.config import DecoderConfig, shorten
from jaxablate.models.families import wrapper
from jaxablate.models.hf_keys import (
    FIXED,
    HANDLED,
    IGNORED,
    Keys,
    check_dtype,
    check_fixed,
    check_known,
    number,
    sizes,
)

# Keys of version 4 that are written in another way, and keys that do not survive an export.
_NOT_WRITTEN = {"rope_theta", "rope_scaling", "torch_dtype", "quantization_config", "auto_map"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Decoders that share a `model_type`; a family file holds what differs from the others.

    `defaults` are those of the Hugging Face config class. `read` turns the family's own keys into
    fields of `DecoderConfig`, `write` turns them back. `fp8` says that statically quantised FP8
    files are known.
    """

    name: str
    architecture: str
    defaults: Mapping[str, Any]
    own_keys: frozenset[str]
    read: Callable[[Keys, int], dict[str, Any]]
    write: Callable[[DecoderConfig], dict[str, Any]]
    fixed: Mapping[str, tuple] = field(default_factory=dict)
    rope_keys: frozenset[str] = frozenset()
    fp8: bool = False

    def from_hf(self, hf_config: Mapping[str, Any]) -> DecoderConfig:
        """The decoder that a config.json describes.

        Raises `UserError` for a key that is not known, and for a value our layers cannot serve.
        """
        wrapped = wrapper.is_wrapper(hf_config)
        values = wrapper.text_config(hf_config) if wrapped else dict(hf_config)
        if values.setdefault("model_type", self.name) != self.name:
            raise UserError(f"model_type must be {self.name}, got {values['model_type']!r}")
        check_known(values, HANDLED | FIXED.keys() | self._own() | IGNORED.keys(), self.name)
        _check_architectures(hf_config, wrapper.ARCHITECTURE if wrapped else self.architecture)
        check_fixed(values, {**FIXED, **self.fixed})
        check_dtype(values)
        self._check_quantisation(values.get("quantization_config"))
        return self._decoder(Keys(values, self.defaults), dict(hf_config))

    def to_hf(self, config: DecoderConfig, *, dtype: str | None = None) -> dict[str, Any]:
        """A config.json of version 5; keys of the source that we do not use are kept.

        `dtype` is the precision of the weights beside it. A decoder that was read from an
        image-text model is written as one again; see `text_tower`.
        """
        wrapped = wrapper.is_wrapper(config.source)
        source = config.source.get("text_config", {}) if wrapped else config.source
        precision = {} if dtype is None else {"dtype": dtype}
        text = {key: value for key, value in source.items() if key not in _NOT_WRITTEN}
        text |= {"architectures": [self.architecture], "model_type": self.name}
        text.setdefault("hidden_act", "silu")
        text |= _write_common(config) | precision
        rope_extra = self.write(config)
        text["rope_parameters"] = hf_rope.write_rope(config.rope)
        text["rope_parameters"] |= rope_extra.pop("rope_parameters", {})
        text |= rope_extra
        return {**wrapper.wrap(config.source, text), **precision} if wrapped else text

    def text_tower(self, config: DecoderConfig) -> DecoderConfig:
        """The same decoder without the image-text model around it, as it is exported alone."""
        text = self.to_hf(config)
        if wrapper.is_wrapper(config.source):
            text = {**text["text_config"], "architectures": [self.architecture]}
        return replace(config, source=text)

    def ignored_keys(self, hf_config: Mapping[str, Any]) -> dict[str, str]:
        """Keys of this config that are not used, and why."""
        reasons = wrapper.IGNORED_KEYS if wrapper.is_wrapper(hf_config) else IGNORED
        return {key: reasons[key] for key in hf_config if key in reasons}

    def key_rules(self, config: DecoderConfig) -> list[keyrules.KeyRule]:
        """One rule for every kind of weight this decoder has."""
        rules = keyrules.rules_of(config)
        if wrapper.is_wrapper(config.source):
            rules = [wrapper.wrap_rule(rule) for rule in rules]
        return rules

    def hf_names(self, config: DecoderConfig) -> dict[str, str]:
        """Our path -> the tensor's name in a file that we write."""
        return {path: names[0] for path, names in self._candidates(config).items()}

    def locate(self, config: DecoderConfig, names: Collection[str]) -> dict[str, str]:
        """Our path -> which of a file's tensors is read for it; raises `UserError` if none is."""
        found, missing = {}, []
        for path, candidates in self._candidates(config).items():
            present = [name for name in candidates if name in names]
            found[path] = present[0] if present else ""
            missing += [] if present else [candidates[0]]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UserError(f"the checkpoint lacks {', '.join(missing[:5])}{more}")
        return found

    def with_tying_of(self, config: DecoderConfig, names: Collection[str]) -> DecoderConfig:
        """Tied or not as the file decides: tied unless it holds an embedding and a head."""
        ends = self._ends(config).values()
        return replace(config, tied=not all(any(n in names for n in end) for end in ends))

    def ignored_tensor(self, config: DecoderConfig, name: str) -> str | None:
        """Why a file's tensor is not read; None if it has to be."""
        if name.endswith(".rotary_emb.inv_freq"):
            return "rotary tables are computed"
        return wrapper.ignored_tensor(name) if wrapper.is_wrapper(config.source) else None

    def is_quantised(self, config: DecoderConfig) -> bool:
        """The source's matrices are FP8 with a scale beside each; see `keyrules.scale_names`."""
        source = config.source
        inner = source.get("text_config", {}) if wrapper.is_wrapper(source) else {}
        return bool(source.get("quantization_config") or inner.get("quantization_config"))

    def _own(self) -> set[str]:
        return set(self.own_keys) | self.fixed.keys()

    def _decoder(self, keys: Keys, source: dict[str, Any]) -> DecoderConfig:
        numbers = sizes(keys)
        rope = hf_rope.read_rope(
            hf_rope.parameters_of(keys),
            max_position_embeddings=numbers["max_position_embeddings"],
            extra=self.rope_keys,
        )
        pad = keys.integer_or_none("pad_token_id")
        fields = {
            **numbers,
            "family": self.name,
            "rms_norm_eps": number("rms_norm_eps", keys.get("rms_norm_eps")),
            "rope": rope,
            "tied": keys.flag("tie_word_embeddings"),
            "bos_id": keys.integer_or_none("bos_token_id"),
            "eos_ids": keys.integers("eos_token_id"),
            "pad_id": None if pad == -1 else pad,  # old files write -1 for "none"
            "source": source,
            **_PLAIN,
        }
        return DecoderConfig(**fields | self.read(keys, numbers["num_layers"]))

    def _check_quantisation(self, quantisation: Any) -> None:
        if quantisation is None:
            return
        wanted = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}
        got = quantisation if isinstance(quantisation, Mapping) else {"quant_method": quantisation}
        wrong = {key: got.get(key) for key in wanted if got.get(key) != wanted[key]}
        if not self.fp8:
            method = got.get("quant_method")
            raise UserError(f"quantization_config: {self.name} has none, got {shorten(method)}")
        if wrong:
            right = {key: wanted[key] for key in wrong}
            raise UserError(f"quantization_config must have {right}, got {shorten(wrong)}")

    def _candidates(self, config: DecoderConfig) -> dict[str, tuple[str, ...]]:
        candidates = {}
        for rule in self.key_rules(config):
            for layer in range(config.num_layers if rule.per_layer else 1):
                candidates[rule.path(layer)] = rule.names(layer)
        if config.tied:  # a tied file may hold the matrix under the head's name alone
            candidates["embedding/weight"] += self._ends(config)["head/weight"]
        return candidates

    def _ends(self, config: DecoderConfig) -> dict[str, tuple[str, ...]]:
        rules = self.key_rules(replace(config, tied=False))
        ends = ("embedding/weight", "head/weight")
        return {rule.ours: rule.names(0) for rule in rules if rule.ours in ends}


# What most families have; `read` overrides it.
_PLAIN = {
    "qkv_bias": False,
    "o_bias": False,
    "mlp_bias": False,
    "qk_norm": False,
    "query_scale": None,
}


def _write_common(config: DecoderConfig) -> dict[str, Any]:
    eos = list(config.eos_ids)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        "pad_token_id": config.pad_id,
    }


def _check_architectures(hf_config: Mapping[str, Any], wanted: str) -> None:
    got = hf_config.get("architectures")
    if got not in (None, [], [wanted]):
        raise UserError(f"architectures must be [{wanted!r}], got {shorten(got)}")
