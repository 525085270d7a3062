"""The cache is a value, and decoding through it equals reading everything at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.core.slots import Slots
from jaxablate.models.cache import LayerCache, empty
from tests.models import reference
from tests.tiny import tiny_hf


def test_insert_returns_a_new_cache_and_leaves_the_old_one():
    old = LayerCache(jnp.zeros((1, 4, 1, 2)), jnp.zeros((1, 4, 1, 2)))
    new = old.insert(jnp.ones((1, 2, 1, 2)), 2 * jnp.ones((1, 2, 1, 2)), 1)
    assert new.k[0, :, 0, 0].tolist() == [0, 1, 1, 0]
    assert new.v[0, :, 0, 0].tolist() == [0, 2, 2, 0]
    assert not old.k.any()


def test_insert_that_does_not_fit_is_a_mistake_of_ours():
    cache = LayerCache(jnp.zeros((1, 4, 1, 2)), jnp.zeros((1, 4, 1, 2)))
    with pytest.raises(AssertionError):
        cache.insert(jnp.ones((1, 2, 1, 2)), jnp.ones((1, 2, 1, 2)), 3)


def test_insert_takes_a_traced_index_and_the_cache_keeps_its_dtype():
    cache = LayerCache(*(jnp.zeros((1, 4, 1, 2), jnp.bfloat16) for _ in range(2)))
    row = jnp.ones((1, 1, 1, 2))
    new = jax.jit(lambda cache, at: cache.insert(row, row, at))(cache, 3)
    assert new.k.dtype == jnp.bfloat16
    assert new.k[0, :, 0, 0].tolist() == [0, 0, 0, 1]


def test_empty_cache_is_padding_of_the_configs_shape():
    config, model = tiny_hf("qwen3")
    cache = empty(reference.ours(model, config.to_dict()).config, batch=2, size=5, dtype="bfloat16")
    assert len(cache.layers) == 3
    assert cache.layers[0].k.shape == (2, 5, 2, 16)
    assert not cache.slots.segment.any()
    filled = cache.insert_slots(Slots(*(jnp.ones((2, 2), jnp.int32) for _ in range(5))), 1)
    assert filled.slots.segment[0].tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("layout", ["loop", "scan"])
def test_prefill_and_decode_equal_the_whole_sequence(layout):
    config, model = tiny_hf("ministral3", num_hidden_layers=2)
    decoder = reference.ours(model, config.to_dict(), layout=layout)
    rows = jnp.asarray(reference.tokens(config.vocab_size, length=20))
    causal = jnp.broadcast_to(jnp.tri(20, dtype=bool), (2, 3, 20, 20))

    @functools.partial(jax.jit, static_argnums=1)  # eagerly it is hundreds of small programs
    def step(tokens, start, cache):
        end = start + tokens.shape[1]
        attend = reference.dense_attend(causal[:, :, start:end], at=start)
        positions = jnp.asarray(reference.positions(tokens.shape[1], start=start))
        out = decoder(tokens, positions_BT=positions, attend=attend, cache=cache)
        return out.hidden, out.cache

    whole, nothing = step(rows, 0, None)
    assert nothing is None
    cache = empty(decoder.config, batch=3, size=20, dtype="float32")
    pieces = []
    for start, end in ((0, 17), (17, 18), (18, 20)):
        piece, cache = step(rows[:, start:end], start, cache)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=2e-5)
