"""An untrained decoder from a few sizes: a family's layout, and weights drawn from a seed."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxablate.core.errors import UserError, unknown
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder
from jaxablate.models.families import FAMILIES, get
from jaxablate.models.layout import build, weights

# Projections that write into the residual stream, once or twice a layer.
_INTO_RESIDUAL = ("/attention/o/weight", "/mlp/down/weight")


@dataclass(frozen=True, kw_only=True)
class ShapeConfig:
    """Sizes of a decoder to be trained from nothing.

    Attributes:
        family: whose blocks: llama, ministral3, mistral, qwen2, qwen3.
        layers: how many blocks.
        hidden: width D of the residual stream.
        mlp: width F inside the MLP.
        heads: query heads.
        kv_heads: key-value heads; divides `heads`.
        head_dim: width of a head.
        context: positions that training will reach.
        rope_theta: base of the rotary frequencies.
        tied: the embedding is the output matrix as well.
    """

    family: str = "llama"
    layers: int = 6
    hidden: int = 256
    mlp: int = 768
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    context: int = 1024
    rope_theta: float = 10_000.0
    tied: bool = True

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise unknown("family", self.family, FAMILIES)
        for name in ("layers", "hidden", "mlp", "heads", "kv_heads", "head_dim", "context"):
            if getattr(self, name) < 1:
                raise UserError(f"shape.{name} must be >= 1, got {getattr(self, name)}")
        self.decoder(vocab_size=8, eos_id=0, pad_id=None)

    def decoder(self, *, vocab_size: int, eos_id: int, pad_id: int | None) -> DecoderConfig:
        """The whole config, with what the tokenizer decides."""
        sizes: dict[str, Any] = {
            "model_type": self.family,
            "vocab_size": vocab_size,
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "tie_word_embeddings": self.tied,
            "bos_token_id": None,
            "eos_token_id": eos_id,
            "pad_token_id": pad_id,
            "sliding_window": None,
        }
        if self.family not in ("mistral", "ministral3", "qwen2", "qwen3"):
            del sizes["sliding_window"]
        return get(self.family).from_hf(sizes | self._positions())

    def _positions(self) -> dict[str, Any]:
        if self.family != "ministral3":
            rope = {"rope_type": "default", "rope_theta": self.rope_theta}
            return {"max_position_embeddings": self.context, "rope_parameters": rope}
        # As in the published models, YaRN reaches beyond the trained length; here twice as far.
        rope = {
            "rope_type": "yarn",
            "rope_theta": self.rope_theta,
            "factor": 2.0,
            "original_max_position_embeddings": self.context,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        }
        return {"max_position_embeddings": 2 * self.context, "rope_parameters": rope}


def untrained(config: DecoderConfig, *, seed: int) -> Decoder:
    """A float32 decoder with fresh weights: normal with deviation 0.02, norms 1.

    What writes into the residual stream is smaller by sqrt(2 L), so that the stream's variance does
    not grow with depth (GPT-2, section 2.3). The bits depend on the version of jax.
    """
    decoder = Decoder(config, dtype="float32", rngs=nnx.Rngs(seed))
    scale = 1 / math.sqrt(2 * config.num_layers)
    arrays = {
        path: array * jnp.float32(scale) if path.endswith(_INTO_RESIDUAL) else array
        for path, array in weights(decoder).items()
    }
    return build(config, arrays)
