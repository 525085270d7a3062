"""The program made for CUDA, read on a machine without one: which calls, and no [T, T] array."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.core.slots import Slots, rows
from jaxablate.kernels.attention import attention
from jaxablate.masks.lower import lower
from jaxablate.masks.parse import parse

T = 1152
FLASH = "__cudnn$fmhaSoftmax"


@pytest.fixture
def as_if_cuda(monkeypatch):
    """Let jax believe in an installed cuDNN and a Hopper GPU while it lowers."""
    from jax._src.cudnn import fused_attention_stablehlo as fused

    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91900)
    monkeypatch.setattr(fused, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda capability: False)


def program(text, slots, *, grad):
    """StableHLO for CUDA of attention under a mask, with its lowered form as inputs."""
    lowered = lower(parse(text), slots, slots)

    def out(q, k, v, lowered):
        return attention(q, k, v, lowered, scale=0.1, platform="gpu")

    def loss(q, k, v, lowered):
        return jnp.sum(out(q, k, v, lowered).astype(jnp.float32))

    function = jax.grad(loss, argnums=(0, 1, 2)) if grad else out
    batch = len(slots.position)
    q = jax.ShapeDtypeStruct((batch, T, 4, 128), jnp.bfloat16)
    kv = jax.ShapeDtypeStruct((batch, T, 2, 128), jnp.bfloat16)
    traced = jax.jit(function).trace(q, kv, kv, lowered)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def squares(text):
    """Array types of the program that have two axes of length T."""
    found = re.findall(r"tensor<([0-9x]+)x[a-z]", text)
    return [shape for shape in found if shape.split("x").count(str(T)) >= 2]


def packed():
    """Two packed examples a row, each a prompt and a response."""
    one = rows((500, 652), T, (200, 300))
    first, second = (one.map(lambda f, b=b: f[b]) for b in (0, 1))
    merged = [np.concatenate([a[:500], b[:652]])[None] for a, b in zip(first, second, strict=True)]
    slots = Slots(*merged)
    slots.segment[:, 500:] = 2
    return slots


OWN = rows((T, 700, 1), T, (400, 1, 1))


@pytest.mark.parametrize(
    ("text", "calls"),
    [("causal", 1), ("full_bidirectional", 1), ("prefix_lm", 2), ("sliding_window(64)", 1)],
)
@pytest.mark.parametrize("grad", [False, True])
def test_own_masks_are_cudnn_calls_without_a_square_array(as_if_cuda, text, calls, grad):
    lowered = program(text, OWN, grad=grad)
    backward = lowered.count(FLASH + "Backward(")
    assert lowered.count(FLASH + "(") == calls
    assert backward == (calls if grad else 0)
    assert squares(lowered) == []


@pytest.mark.parametrize(
    ("text", "types", "window"),
    [
        ("causal", ["CAUSAL"], "0"),
        ("full_bidirectional", ["PADDING"], "0"),
        ("prefix_lm", ["PADDING", "CAUSAL"], "0"),
        # Without its own causal type a window would look into the future.
        ("sliding_window(64)", ["CAUSAL"], "64"),
    ],
)
def test_cudnn_is_asked_for_exactly_these_masks(as_if_cuda, text, types, window):
    lowered = program(text, OWN, grad=False)
    assert re.findall(r"mask_type\\22: \\22(\w+)", lowered) == types
    assert set(re.findall(r"sliding_window_length\\22: (\d+)", lowered)) == {window}


@pytest.mark.parametrize("text", ["causal", "prefix_lm", "gist", "sliding_window(64)"])
@pytest.mark.parametrize("grad", [False, True])
def test_other_interval_masks_have_no_square_array_either(as_if_cuda, text, grad):
    assert lower(parse(text), packed(), packed()).kind == "rows"
    assert squares(program(text, packed(), grad=grad)) == []


def test_the_search_for_square_arrays_finds_one():
    def square(q, k):
        return jnp.einsum("td,sd->ts", q, k)

    array = jax.ShapeDtypeStruct((T, 8), jnp.float32)
    assert squares(jax.jit(square).lower(array, array).as_text())
