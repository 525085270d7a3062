"""Reading a Hugging Face config strictly: typed values, ignored keys, refused keys."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError, nearest
from jaxablate.models.config import LARGEST, check_size, shorten


def words(text: str) -> frozenset[str]:
    """The keys in a piece of text, such as "hidden_size head_dim"."""
    return frozenset(text.split())


# Keys read for every family, in the old (v4) and the new (v5) spelling.
HANDLED = words("""
    model_type architectures vocab_size hidden_size intermediate_size num_hidden_layers
    num_attention_heads num_key_value_heads head_dim max_position_embeddings rms_norm_eps
    tie_word_embeddings rope_parameters rope_scaling rope_theta bos_token_id eos_token_id
    pad_token_id dtype torch_dtype quantization_config
""")

# Keys that must say what our layers do; any other value is refused.
FIXED: Mapping[str, tuple] = {
    "hidden_act": ("silu", "swish"),
    "partial_rotary_factor": (1, None),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "is_causal": (True,),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "pruned_heads": ({}, None),
}

_IGNORED_BY_REASON = {
    "a note about the file": """
        transformers_version _name_or_path transformers.js_config unsloth_fixed unsloth_version
        is_llama_config tokenizer_class prefix finetuning_task task_specific_params""",
    "code from a checkpoint folder is never run": "auto_map",
    "the kernel is chosen for the mask": """
        _attn_implementation _attn_implementation_autoset attn_implementation""",
    "outputs are asked for by the caller": """
        return_dict output_hidden_states output_attentions use_cache torchscript""",
    "there is no classification head": "id2label label2id num_labels problem_type",
    "it matters to training from the start only": """
        initializer_range attention_dropout pretraining_tp chunk_size_feed_forward use_bfloat16
        tf_legacy_loss tie_encoder_decoder is_decoder""",
    "generation settings come from the caller": """
        max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty
        temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
        encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores
        return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values
        exponential_decay_length_penalty suppress_tokens begin_suppress_tokens sep_token_id
        decoder_start_token_id""",
}
IGNORED = {key: why for why, keys in _IGNORED_BY_REASON.items() for key in words(keys)}


class Keys:
    """The values of one config, where absent keys take the family's defaults.

    Every reader raises `UserError` that names the key, what it holds and what was wanted.
    """

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any]):
        self.given, self.defaults = values, defaults
        self._values = {**defaults, **values}

    def get(self, key: str) -> Any:
        """The raw value; None when neither the file nor the defaults have it."""
        return self._values.get(key)

    def size(self, key: str, largest: int) -> int:
        """An integer from 1 to `largest`."""
        check_size(key, self.get(key), largest)
        return self.get(key)

    def integer_or_none(self, key: str) -> int | None:
        """An integer, or None for null."""
        value = self.get(key)
        return None if value is None else integer(key, value)

    def number(self, key: str) -> float:
        """A finite number."""
        return number(key, self.get(key))

    def flag(self, key: str) -> bool:
        """True or false."""
        return flag(key, self.get(key))

    def integers(self, key: str) -> tuple[int, ...]:
        """None, one integer or a list of them."""
        value = self.get(key)
        if value is None:
            return ()
        return tuple(integer(key, item) for item in (value if isinstance(value, list) else [value]))

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """An object that the file itself gives, or None for null."""
        value = self.given.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise _wrong(key, value, "an object or null")
        return value


def integer(key: str, value: Any) -> int:
    """`value` if it is an integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(key, value, "an integer")
    return value


def number(key: str, value: Any) -> float:
    """`value` as a float if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(key, value, "a number")
    if abs(value) > 1e300 or math.isnan(value):
        raise _wrong(key, value, "a finite number")
    return float(value)


def flag(key: str, value: Any) -> bool:
    """`value` if it is true or false."""
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def sizes(keys: Keys) -> dict[str, int]:
    """The sizes every decoder has, under the names of `DecoderConfig`."""
    heads = keys.size("num_attention_heads", LARGEST["num_heads"])
    width = keys.size("hidden_size", LARGEST["hidden_size"])
    if keys.get("head_dim") is None and width % heads:
        raise UserError(
            f"hidden_size must be a multiple of num_attention_heads {heads} "
            f"when head_dim is not given, got {width}"
        )
    has_own_kv = keys.get("num_key_value_heads") is not None
    has_own_dim = keys.get("head_dim") is not None
    return {
        "vocab_size": keys.size("vocab_size", LARGEST["vocab_size"]),
        "hidden_size": width,
        "intermediate_size": keys.size("intermediate_size", LARGEST["intermediate_size"]),
        "num_layers": keys.size("num_hidden_layers", LARGEST["num_layers"]),
        "num_heads": heads,
        "num_kv_heads": keys.size("num_key_value_heads", heads) if has_own_kv else heads,
        "head_dim": keys.size("head_dim", LARGEST["head_dim"]) if has_own_dim else width // heads,
        "max_position_embeddings": keys.size(
            "max_position_embeddings", LARGEST["max_position_embeddings"]
        ),
    }


def check_known(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises `UserError` for a key outside `known`, naming the nearest."""
    names = set(known)
    for key in given:
        if key not in names:
            guess = nearest(str(key), names)
            hint = f"; did you mean {guess!r}?" if guess else ""
            raise UserError(f"{what} does not know the key {shorten(key)}{hint}")


def check_fixed(values: Mapping[str, Any], fixed: Mapping[str, tuple]) -> None:
    """Raises `UserError` where a key asks for something our layers do not do."""
    for key, allowed in fixed.items():
        if key in values and values[key] not in allowed:
            raise _wrong(key, values[key], " or ".join(map(repr, allowed)))


def check_dtype(values: Mapping[str, Any]) -> None:
    """Raises `UserError` for the name of a floating type that we do not know."""
    for key in ("dtype", "torch_dtype"):
        name = values.get(key)
        if name is None:
            continue
        if not isinstance(name, str):
            raise _wrong(key, name, "the name of a dtype")
        parse_dtype(name.removeprefix("torch."))


def _wrong(key: str, value: Any, wanted: str) -> UserError:
    return UserError(f"{key} must be {wanted}, got {shorten(value)}")
