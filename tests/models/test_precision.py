"""In bfloat16 every matrix product has bfloat16 operands, forward and backward."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxablate.models.decoder import Decoder
from tests.models.test_layout import CONFIG

TYPES = re.compile(r"dot_general.*: \(tensor<[\dx]*(\w+)>, tensor<[\dx]*(\w+)>\) -> ")


def without_attention(layer, q, k, v, cache):
    return q * k * v, cache


def products(function, *arguments):
    text = jax.jit(function).lower(*arguments).as_text()
    return [TYPES.search(line).groups() for line in text.splitlines() if "dot_general" in line]


@pytest.mark.parametrize("layout", ["loop", "scan"])
def test_no_product_is_widened(layout):
    decoder = Decoder(CONFIG, dtype="bfloat16", layout=layout)
    graph, state = nnx.split(decoder)
    tokens = jnp.zeros((1, 3), jnp.int32)

    def loss(state):
        model = nnx.merge(graph, state)
        out = model(tokens, positions_BT=tokens, attend=without_attention)
        return jnp.sum(jax.nn.log_softmax(model.unembed(out.hidden))[..., 0])

    forward = products(loss, state)
    both = products(jax.value_and_grad(loss), state)
    per_layer = 7 * (CONFIG.num_layers if layout == "loop" else 1)
    assert len(forward) == per_layer + 1
    assert len(both) == 3 * len(forward)
    assert set(both) == {("bf16", "bf16")}
