"""One block's projections, norms and rotation; the caller's `attend` does the rest of attention."""

from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float, Int

from jaxablate.models.cache import LayerCache
from jaxablate.models.config import DecoderConfig
from jaxablate.models.layers import Linear, RMSNorm
from jaxablate.models.rope import Rotation, rotate

# attend(layer, q_BTNH, k_BTKH, v_BTKH, layer_cache) -> (out_BTNH, new_layer_cache).
# Queries and keys come rotated; mask, cache and kernel are attend's affair. `layer` is an int in
# the "loop" layout and a traced int32 scalar in the "scan" layout.
Attend = Callable[..., tuple[Array, LayerCache | None]]


class Attention(nnx.Module):
    """Grouped-query attention: N query heads share K key-value heads in blocks of N / K."""

    def __init__(
        self, config: DecoderConfig, *, dtype: str, rngs: nnx.Rngs, stack: tuple[int, ...] = ()
    ):
        width = config.hidden_size
        queries = config.num_heads * config.head_dim
        keys = config.num_kv_heads * config.head_dim
        common = {"dtype": dtype, "rngs": rngs, "stack": stack}
        self.q = Linear(width, queries, bias=config.qkv_bias, **common)
        self.k = Linear(width, keys, bias=config.qkv_bias, **common)
        self.v = Linear(width, keys, bias=config.qkv_bias, **common)
        self.o = Linear(queries, width, bias=config.o_bias, **common)
        self.q_norm = _head_norm(config, dtype, stack)
        self.k_norm = _head_norm(config, dtype, stack)
        self.head_dim = config.head_dim

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        *,
        rotation: Rotation,
        attend: Attend,
        layer: int | Int[Array, ""],
        cache: LayerCache | None,
    ) -> tuple[Float[Array, "B T D"], LayerCache | None]:
        """What the block adds to the residual stream, and the layer's new cache."""
        q_BTNH = self._heads(self.q(x_BTD), self.q_norm)
        k_BTKH = self._heads(self.k(x_BTD), self.k_norm)
        v_BTKH = self._heads(self.v(x_BTD), None)
        q_BTNH = rotate(q_BTNH, rotation.cos, rotation.sin)
        k_BTKH = rotate(k_BTKH, rotation.cos, rotation.sin)
        if rotation.query_scale is not None:
            q_BTNH = q_BTNH * rotation.query_scale
        out_BTNH, cache = attend(layer, q_BTNH, k_BTKH, v_BTKH, cache)
        return self.o(out_BTNH.reshape(*x_BTD.shape[:2], -1)), cache

    def _heads(self, flat: Float[Array, "B T NH"], norm: RMSNorm | None) -> Array:
        split = flat.reshape(*flat.shape[:2], -1, self.head_dim)
        return split if norm is None else norm(split)


def _head_norm(config: DecoderConfig, dtype: str, stack: tuple[int, ...]) -> RMSNorm | None:
    if not config.qk_norm:
        return None
    return RMSNorm(config.head_dim, eps=config.rms_norm_eps, dtype=dtype, stack=stack)
