"""A small random language model without files, for tests of the engine."""

import jax
from flax import nnx

from jaxablate.language_model import LanguageModel
from jaxablate.models.config import DecoderConfig, RopeConfig
from jaxablate.models.decoder import Decoder
from jaxablate.models.layout import stack

VOCAB = 97


def random_model(
    *, layout: str = "loop", windows: tuple[int | None, ...] = (None, None, None), seed: int = 0
) -> LanguageModel:
    """Three layers with weights large enough that every token matters."""
    config = DecoderConfig(
        family="llama",
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_layers=len(windows),
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        rms_norm_eps=1e-5,
        rope=RopeConfig(),
        max_position_embeddings=2048,
        tied=True,
        qkv_bias=False,
        o_bias=False,
        mlp_bias=False,
        qk_norm=False,
        query_scale=None,
        windows=windows,
        bos_id=None,
        eos_ids=(5,),
        pad_id=None,
        source={},
    )
    graph, state = nnx.split(Decoder(config, dtype="float32", rngs=nnx.Rngs(seed)))
    decoder = nnx.merge(graph, jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, state))
    return LanguageModel(stack(decoder) if layout == "scan" else decoder, config)
