"""Every kernel equals a float64 definition written out here, or declines with a reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Slots, rows
from jaxablate.kernels import cudnn, decode, reference, xla
from jaxablate.kernels.attention import KERNELS, attention, choose
from jaxablate.kernels.call import Call
from jaxablate.masks.lower import lower
from jaxablate.masks.parse import parse

MASKS = (
    "causal",
    "full_bidirectional",
    "prefix_lm",
    "sliding_window(5)",
    "gist",
    "prefix_lm & window(7)",
    "causal & (sink(2) | window(4))",
)
LENGTHS, PROMPTS = (37, 1, 64, 20), (12, 1, 64, 0)


def definition(q, k, v, visible, scale):
    """Float64 attention, one head and one row at a time; rows that see nothing give zeros."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(*q.shape[:3]):
        keys = np.flatnonzero(visible[b, t])
        if len(keys):
            scores = scale * k[b, keys, n // group] @ q[b, t, n]
            weights = np.exp(scores - scores.max())
            out[b, t, n] = weights / weights.sum() @ v[b, keys, n // group]
    return out


def random_qkv(batch, length, keys=None, heads=4, kv_heads=2, width=8, seed=0):
    random = np.random.default_rng(seed)
    shapes = ((length, heads), (keys or length, kv_heads), (keys or length, kv_heads))
    return [
        jnp.asarray(random.normal(size=(batch, *shape, width)), jnp.float32) for shape in shapes
    ]


@pytest.mark.parametrize("text", MASKS)
@pytest.mark.parametrize("kernel", [reference, xla])
def test_kernel_equals_the_definition_with_padding_and_ragged_prompts(kernel, text, monkeypatch):
    monkeypatch.setattr(xla, "BLOCK", 16)  # 64 queries in four blocks
    slots = rows(LENGTHS, 64, PROMPTS)
    lowered = lower(parse(text), slots, slots)
    q, k, v = random_qkv(4, 64)
    got = kernel.run(q, k, v, lowered, scale=0.3)
    expected = definition(q, k, v, parse(text).materialise(slots, slots), 0.3)
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("length", [600, 513])
def test_blocks_that_do_not_divide_the_length_change_nothing(length):
    slots = rows([length - 3], length, [length // 2])
    lowered = lower(parse("prefix_lm"), slots, slots)
    q, k, v = random_qkv(1, length)
    assert length > 2 * xla.BLOCK
    np.testing.assert_allclose(
        xla.run(q, k, v, lowered, scale=0.3),
        reference.run(q, k, v, lowered, scale=0.3),
        atol=2e-6,
    )


@pytest.mark.parametrize("text", ["causal", "prefix_lm", "gist"])
def test_gradients_of_blocks_equal_gradients_of_the_reference(text, monkeypatch):
    monkeypatch.setattr(xla, "BLOCK", 16)
    slots = rows((37, 64), 64, (12, 30))
    lowered = lower(parse(text), slots, slots)
    q, k, v = random_qkv(2, 64)
    weight = random_qkv(2, 64, seed=1)[0]

    def loss(kernel, q, k, v):
        return jnp.sum(kernel.run(q, k, v, lowered, scale=0.3) * weight)

    for got, expected in zip(
        jax.grad(loss, argnums=(1, 2, 3))(xla, q, k, v),
        jax.grad(loss, argnums=(1, 2, 3))(reference, q, k, v),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_a_row_that_sees_nothing_gives_zeros_and_no_gradient():
    slots = rows((3,), 8, (3,))
    lowered = lower(parse("causal & ~causal"), slots, slots)
    q, k, v = random_qkv(1, 8)

    def total(q):
        return jnp.sum(xla.run(q, k, v, lowered, scale=1.0))

    assert not np.any(xla.run(q, k, v, lowered, scale=1.0))
    assert not np.any(jax.grad(total)(q))


@pytest.mark.parametrize("text", MASKS)
def test_decode_equals_the_last_row_of_the_definition(text):
    slots = rows((20, 33), 40, (8, 1))
    last = Slots(*(np.stack([f[0, 19:20], f[1, 32:33]]) for f in slots))
    lowered = lower(parse(text), last, slots)
    q, k, v = random_qkv(2, 1, keys=40)
    got = decode.run(q, k, v, lowered, scale=0.3)
    expected = definition(q, k, v, parse(text).materialise(last, slots), 0.3)
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_bfloat16_stays_within_its_rounding_of_the_definition():
    slots = rows(LENGTHS, 64, PROMPTS)
    lowered = lower(parse("prefix_lm"), slots, slots)
    q, k, v = (x.astype(jnp.bfloat16) for x in random_qkv(4, 64))
    got = np.asarray(xla.run(q, k, v, lowered, scale=0.3), np.float64)
    expected = definition(q, k, v, parse("prefix_lm").materialise(slots, slots), 0.3)
    assert np.linalg.norm(got - expected) / np.linalg.norm(expected) < 6e-3


def shapes(length, dtype=jnp.bfloat16, width=128):
    return [jax.ShapeDtypeStruct((2, length, n, width), dtype) for n in (4, 2)]


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("causal", "cudnn"),
        ("full_bidirectional", "cudnn"),
        ("prefix_lm", "cudnn"),
        ("sliding_window(9)", "cudnn"),
        ("gist", "cudnn_dense"),
    ],
)
def test_a_gpu_serves_its_own_masks_by_cudnn_and_short_rows_of_others_as_arrays(text, kernel):
    slots = rows((128, 90), 128, (40, 20))
    if text == "gist":
        slots.role[:, 38:40] = 4
    lowered = lower(parse(text), slots, slots)
    choice = choose(Call.of(lowered, *shapes(128), "gpu"))
    assert choice.kernel == kernel
    assert "decode" in dict(choice.declined)


@pytest.mark.parametrize(("length", "kernel"), [(1024, "cudnn_dense"), (1152, "xla"), (192, "xla")])
def test_packed_rows_go_to_cudnn_as_an_array_only_where_that_is_small_and_right(length, kernel):
    slots = rows((length,), length)
    slots.segment[:, length // 2 :] = 2
    slots.position[:, length // 2 :] -= length // 2
    lowered = lower(parse("prefix_lm"), slots, slots)
    assert lowered.kind == "rows"
    call = Call.of(lowered, *shapes(length), "gpu")
    assert choose(call).kernel == kernel


@pytest.mark.parametrize(
    ("length", "dtype", "width", "platform", "word"),
    [
        (128, jnp.float32, 128, "gpu", "float32"),
        (96, jnp.bfloat16, 128, "gpu", "96"),
        (128, jnp.bfloat16, 320, "gpu", "320"),
        (128, jnp.bfloat16, 128, "cpu", "cpu"),
    ],
)
def test_cudnn_declines_with_a_reason_that_names_what_was_got(length, dtype, width, platform, word):
    slots = rows((length,), length)
    lowered = lower(parse("causal"), slots, slots)
    reason = cudnn.declines(Call.of(lowered, *shapes(length, dtype, width), platform))
    assert reason is not None
    assert word in reason


def test_a_broken_cudnn_release_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(cudnn, "version", lambda: (9, 10, 1))
    slots = rows((128,), 128)
    reason = cudnn.declines(Call.of(lower(parse("causal"), slots, slots), *shapes(128), "gpu"))
    assert reason is not None
    assert "9.10.1" in reason


def test_a_named_kernel_that_declines_is_an_error_not_a_fallback():
    slots = rows((8,), 8)
    lowered = lower(parse("causal"), slots, slots)
    q, k, v = random_qkv(1, 8)
    with pytest.raises(UserError, match=r"cudnn.*declines"):
        attention(q, k, v, lowered, scale=1.0, kernel="cudnn")
    with pytest.raises(UserError, match="did you mean 'xla'"):
        attention(q, k, v, lowered, scale=1.0, kernel="xl")
    assert set(KERNELS) == {"reference", "decode", "cudnn", "cudnn_dense", "xla"}
