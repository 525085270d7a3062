"""Weights by path: both layouts hold the same arrays, and only arrays that fit are taken."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxablate.core.errors import UserError
from jaxablate.models.config import DecoderConfig, RopeConfig
from jaxablate.models.decoder import Decoder, abstract
from jaxablate.models.layout import build, by_path, stack, unstack, weights

CONFIG = DecoderConfig(
    family="llama",
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    rms_norm_eps=1e-5,
    rope=RopeConfig(),
    max_position_embeddings=64,
    tied=False,
    qkv_bias=True,
    o_bias=True,
    mlp_bias=True,
    qk_norm=True,
    query_scale=None,
    windows=(None,) * 2,
    bos_id=None,
    eos_ids=(),
    pad_id=None,
)


def test_stack_and_unstack_are_a_round_trip_beyond_ten_layers():
    decoder = Decoder(replace(CONFIG, num_layers=11, windows=(None,) * 11), dtype="float32")
    before, after = weights(decoder), weights(unstack(stack(decoder)))
    assert before.keys() == after.keys()
    for path, array in before.items():
        np.testing.assert_array_equal(array, after[path], err_msg=path)
    stacked = weights(stack(decoder))
    np.testing.assert_array_equal(
        stacked["layers/mlp/up/weight"][10], before["layers/10/mlp/up/weight"]
    )


@pytest.mark.parametrize("layout", ["loop", "scan"])
def test_abstract_state_has_the_shapes_of_a_real_one(layout):
    shapes = by_path(abstract(CONFIG, dtype="bf16", layout=layout))
    real = weights(Decoder(CONFIG, dtype="bf16", layout=layout))
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in shapes.items()} == {
        path: (leaf.shape, leaf.dtype) for path, leaf in real.items()
    }
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in shapes.values())


def test_build_holds_the_very_arrays_it_is_given():
    arrays = weights(Decoder(CONFIG, dtype="bf16"))
    again = weights(build(CONFIG, arrays))
    assert all(again[path] is array for path, array in arrays.items())


def test_build_refuses_weights_that_do_not_fit():
    arrays = weights(Decoder(CONFIG, dtype="float32"))
    missing = {path: array for path, array in arrays.items() if path != "head/weight"}
    with pytest.raises(UserError, match=r"missing \['head/weight'\]"):
        build(CONFIG, missing)
    with pytest.raises(UserError, match=r"unexpected \['tail/weight'\]"):
        build(CONFIG, {**arrays, "tail/weight": arrays["head/weight"]})
    turned = {**arrays, "layers/0/mlp/up/weight": arrays["layers/0/mlp/up/weight"].T}
    with pytest.raises(UserError, match=r"layers/0/mlp/up/weight must have shape \(24, 16\)"):
        build(CONFIG, turned)


def test_unknown_layout_dtype_and_remat_are_refused():
    with pytest.raises(UserError, match=r"unknown layout 'loops'.*did you mean 'loop'"):
        Decoder(CONFIG, dtype="float32", layout="loops")
    with pytest.raises(UserError, match="unknown dtype 'int8'"):
        Decoder(CONFIG, dtype="int8")
    decoder = Decoder(CONFIG, dtype="float32")
    tokens = jnp.zeros((1, 1), jnp.int32)
    with pytest.raises(UserError, match=r"unknown remat 'dot'.*did you mean 'dots'"):
        decoder(tokens, positions_BT=tokens, attend=lambda *_: None, remat="dot")


def test_seed_decides_the_fresh_weights():
    one, same, other = (
        weights(Decoder(CONFIG, dtype="float32", rngs=nnx.Rngs(seed)))["layers/1/mlp/up/weight"]
        for seed in (1, 1, 2)
    )
    assert (one == same).all()
    assert not (one == other).any()
    assert float(one.std()) == pytest.approx(0.02, rel=0.2)


def test_configs_compare_without_their_source():
    assert replace(CONFIG, source={"a": 1}) == CONFIG
    assert hash(replace(CONFIG, source={"a": 1})) == hash(CONFIG)
    with pytest.raises(UserError, match="windows must name each of the 2 layers, got 3"):
        replace(CONFIG, windows=(None,) * 3)
