"""The decoder: embedding, blocks, final norm and logits, for every family.

Two layouts of the same numbers: "loop" keeps each layer's weights apart (the faster program),
"scan" keeps one array of all layers (the faster compilation).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import unknown
from jaxablate.models import rope
from jaxablate.models.attention import Attend, Attention
from jaxablate.models.cache import KVCache, LayerCache
from jaxablate.models.config import DecoderConfig
from jaxablate.models.layers import Embedding, Linear, RMSNorm, SwiGLU, logits

LAYOUTS = ("loop", "scan")

# What the backward pass keeps of each block: everything, its matrix products, or only its input.
REMAT = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


_Run = Callable[..., tuple[Array, LayerCache | None]]


class DecoderOutput(NamedTuple):
    """`hidden` is after the final norm; `states` are what `collect` asked for."""

    hidden: Float[Array, "B T D"]
    cache: KVCache | None
    states: Float[Array, "L2 B T D"] | None


class Block(nnx.Module):
    """h = x + attention(norm(x)); h + mlp(norm(h))."""

    def __init__(
        self, config: DecoderConfig, *, dtype: str, rngs: nnx.Rngs, stack: tuple[int, ...] = ()
    ):
        norm = partial(
            RMSNorm, config.hidden_size, eps=config.rms_norm_eps, dtype=dtype, stack=stack
        )
        self.attention_norm = norm()
        self.attention = Attention(config, dtype=dtype, rngs=rngs, stack=stack)
        self.mlp_norm = norm()
        self.mlp = SwiGLU(
            config.hidden_size,
            config.intermediate_size,
            bias=config.mlp_bias,
            dtype=dtype,
            rngs=rngs,
            stack=stack,
        )

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        *,
        rotation: rope.Rotation,
        attend: Attend,
        layer: int | Int[Array, ""],
        cache: LayerCache | None,
    ) -> tuple[Float[Array, "B T D"], LayerCache | None]:
        """The residual stream after this block, and its new cache."""
        added, cache = self.attention(
            self.attention_norm(x_BTD), rotation=rotation, attend=attend, layer=layer, cache=cache
        )
        h_BTD = x_BTD + added
        return h_BTD + self.mlp(self.mlp_norm(h_BTD)), cache


class Decoder(nnx.Module):
    """A decoder of any family; it computes in the dtype of its weights.

    `rngs` None draws the fresh weights from seed 0.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        dtype: str,
        rngs: nnx.Rngs | None = None,
        layout: str = "loop",
    ):
        if layout not in LAYOUTS:
            raise unknown("layout", layout, LAYOUTS)
        rngs, dtype = rngs or nnx.Rngs(0), parse_dtype(dtype)
        self.config, self.layout = config, layout
        self.embedding = Embedding(config.vocab_size, config.hidden_size, dtype=dtype, rngs=rngs)
        if layout == "scan":
            self.layers = Block(config, dtype=dtype, rngs=rngs, stack=(config.num_layers,))
        else:
            blocks = [Block(config, dtype=dtype, rngs=rngs) for _ in range(config.num_layers)]
            self.layers = nnx.List(blocks)
        self.final_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, dtype=dtype)
        self.head = (
            None
            if config.tied
            else Linear(config.hidden_size, config.vocab_size, bias=False, dtype=dtype, rngs=rngs)
        )

    def __call__(
        self,
        tokens_BT: Int[Array, "B T"],
        *,
        positions_BT: Int[Array, "B T"],
        attend: Attend,
        cache: KVCache | None = None,
        collect: bool = False,
        remat: str = "none",
    ) -> DecoderOutput:
        """Hidden states of these tokens; see `transform` for the arguments."""
        return self.transform(
            self.embed(tokens_BT),
            positions_BT=positions_BT,
            attend=attend,
            cache=cache,
            collect=collect,
            remat=remat,
        )

    def transform(
        self,
        x_BTD: Float[Array, "B T D"],
        *,
        positions_BT: Int[Array, "B T"],
        attend: Attend,
        cache: KVCache | None = None,
        collect: bool = False,
        remat: str = "none",
    ) -> DecoderOutput:
        """The blocks and the final norm over vectors that need not be embeddings of tokens.

        With `collect` the states are the input, each layer's output and the final norm's output.
        `remat` names what the backward pass keeps ("none" recomputes nothing).
        """
        if remat not in REMAT:
            raise unknown("remat", remat, REMAT)
        rotation = rope.rotation(
            positions_BT,
            rope=self.config.rope,
            head_dim=self.config.head_dim,
            query_scale=self.config.query_scale,
            dtype=str(x_BTD.dtype),
        )
        run = partial(_run_block, rotation=rotation, attend=attend, remat=remat)
        over_layers = self._scan if self.layout == "scan" else self._loop
        last_BTD, layers, outputs = over_layers(run, x_BTD, cache, collect)
        hidden_BTD = self.final_norm(last_BTD)
        states = None
        if outputs is not None:
            states = jnp.concatenate([x_BTD[None], outputs, hidden_BTD[None]])
        cache = None if cache is None else cache.with_layers(layers)
        return DecoderOutput(hidden_BTD, cache, states)

    def embed(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """The tokens' input vectors."""
        return self.embedding(tokens_BT)

    def unembed(self, hidden: Float[Array, "*axes D"]) -> Float[Array, "*axes V"]:
        """Float32 logits of hidden states that passed the final norm."""
        head = self.embedding if self.head is None else self.head
        return logits(hidden, head.weight[...])

    def _loop(
        self, run: _Run, x_BTD: Array, cache: KVCache | None, collect: bool
    ) -> tuple[Array, list, Array | None]:
        assert isinstance(self.layers, nnx.List)
        caches, outputs = [], []
        for layer, block in enumerate(self.layers):
            graph, weights = nnx.split(block)
            before = None if cache is None else cache.layers[layer]
            x_BTD, after = run(graph, weights, x_BTD, before, layer=layer)
            caches.append(after)
            outputs.append(x_BTD)
        return x_BTD, caches, jnp.stack(outputs) if collect else None

    def _scan(
        self, run: _Run, x_BTD: Array, cache: KVCache | None, collect: bool
    ) -> tuple[Array, list, Array | None]:
        graph, stacked = nnx.split(self.layers)

        def body(x: Array, each: tuple) -> tuple:
            layer, weights, before = each
            x, after = run(graph, weights, x, before, layer=layer)
            return x, (after, x if collect else None)

        layers = jnp.arange(self.config.num_layers)
        before = (
            None if cache is None else jax.tree.map(lambda *each: jnp.stack(each), *cache.layers)
        )
        x_BTD, (after, outputs) = jax.lax.scan(body, x_BTD, (layers, stacked, before))
        count = 0 if cache is None else self.config.num_layers
        return x_BTD, [jax.tree.map(lambda a, n=n: a[n], after) for n in range(count)], outputs


def abstract(
    config: DecoderConfig, *, dtype: str, layout: str = "loop"
) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a decoder's weights; nothing is allocated."""
    return nnx.state(nnx.eval_shape(partial(Decoder, config, dtype=dtype, layout=layout)))


def _run_block(
    graph: nnx.GraphDef,
    weights: PyTree,
    x_BTD: Array,
    cache: LayerCache | None,
    *,
    layer: int | Array,
    rotation: rope.Rotation,
    attend: Attend,
    remat: str,
) -> tuple[Array, LayerCache | None]:
    def block(weights: PyTree, x_BTD: Array, cache: LayerCache | None) -> tuple:
        return nnx.merge(graph, weights)(
            x_BTD, rotation=rotation, attend=attend, layer=layer, cache=cache
        )

    if remat != "none":
        block = jax.checkpoint(block, policy=REMAT[remat], prevent_cse=isinstance(layer, int))
    return block(weights, x_BTD, cache)
