"""What a decoder is made of: `DecoderConfig`, and the rotary and query-scale parts of it."""

import math
from dataclasses import dataclass, field

from jaxablate.core.errors import UserError, unknown

ROPE_KINDS = ("default", "linear", "llama3", "yarn")

# Far above every published model; a size beyond them is a damaged file, not a large model.
LARGEST = {
    "vocab_size": 2**24,
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "num_layers": 1024,
    "num_heads": 4096,
    "num_kv_heads": 4096,
    "head_dim": 8192,
    "max_position_embeddings": 2**31 - 1,
}


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary frequencies; fields that a kind does not use keep their defaults.

    `attention_factor` None means "derived from factor and the two mscales", as YaRN's paper does
    (arXiv 2309.00071, section 3.4).
    """

    kind: str = "default"
    theta: float = 10_000.0
    factor: float = 1.0
    original_max_position_embeddings: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ROPE_KINDS:
            raise unknown("rope type", self.kind, ROPE_KINDS)
        check_positive("rope_theta", self.theta)
        if self.kind != "default":
            check_positive("rope factor", self.factor)
        if self.kind in ("llama3", "yarn"):
            check_size(
                "rope original_max_position_embeddings",
                self.original_max_position_embeddings,
                2**31 - 1,
            )
        if self.kind == "llama3":
            self._check_bands()
        if self.kind == "yarn":
            self._check_betas()

    def _check_bands(self) -> None:
        check_positive("rope low_freq_factor", self.low_freq_factor)
        if not self.high_freq_factor > self.low_freq_factor:
            raise UserError(
                f"rope high_freq_factor must be above low_freq_factor {self.low_freq_factor}, "
                f"got {self.high_freq_factor}"
            )

    def _check_betas(self) -> None:
        check_positive("rope beta_fast", self.beta_fast)
        check_positive("rope beta_slow", self.beta_slow)
        if self.theta == 1.0:
            raise UserError("rope_theta must not be 1 with yarn, got 1.0")
        if self.attention_factor is not None:
            check_positive("rope attention_factor", self.attention_factor)


@dataclass(frozen=True, kw_only=True)
class QueryScale:
    """Queries grow with position: q *= 1 + beta * ln(1 + floor(position / original_max_position)).

    Llama 4's rule for long contexts, used by Ministral 3; keys are not scaled.
    """

    beta: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.beta) or self.beta < 0:
            raise UserError(f"llama_4_scaling_beta must be a finite number >= 0, got {self.beta}")
        check_size(
            "original_max_position_embeddings",
            self.original_max_position_embeddings,
            2**31 - 1,
        )


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes and choices of one decoder.

    `windows` gives each layer's own sliding window (keys back, itself included), None for none.
    `source` is the Hugging Face config as it was read; it is kept for export and does not take
    part in comparisons.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope: RopeConfig
    max_position_embeddings: int
    tied: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    query_scale: QueryScale | None
    windows: tuple[int | None, ...]
    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None
    source: dict = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            check_size(name, getattr(self, name), largest)
        check_positive("rms_norm_eps", self.rms_norm_eps)
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"num_key_value_heads must divide num_attention_heads {self.num_heads}, "
                f"got {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise UserError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        self._check_windows()
        self._check_token_ids()

    @property
    def untied(self) -> bool:
        """The logits have a weight of their own."""
        return not self.tied

    def _check_windows(self) -> None:
        if len(self.windows) != self.num_layers:
            raise UserError(
                f"windows must name each of the {self.num_layers} layers, got {len(self.windows)}"
            )
        for window in self.windows:
            if window is not None and window < 1:
                raise UserError(f"sliding_window must be >= 1 or null, got {window}")

    def _check_token_ids(self) -> None:
        ids = {"bos_token_id": self.bos_id, "pad_token_id": self.pad_id}
        ids |= {f"eos_token_id[{n}]": token for n, token in enumerate(self.eos_ids)}
        for name, token in ids.items():
            if token is not None and not 0 <= token < self.vocab_size:
                raise UserError(
                    f"{name} must be a token of the vocabulary of {self.vocab_size}, got {token}"
                )


def check_size(name: str, value: object, largest: int) -> None:
    """Raises `UserError` unless `value` is an integer from 1 to `largest`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise UserError(f"{name} must be an integer from 1 to {largest}, got {shorten(value)}")


def check_positive(name: str, value: float) -> None:
    """Raises `UserError` unless `value` is finite and above 0."""
    if not math.isfinite(value) or value <= 0:
        raise UserError(f"{name} must be a finite number above 0, got {value}")


def shorten(value: object) -> str:
    """The value as an error message shows it: at most 60 characters of it."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
