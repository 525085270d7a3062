"""Untrained decoders: sizes as asked, statistics as documented, and transformers loads them."""

import numpy as np
import pytest

from jaxablate.checkpoints.hf import save_hf
from jaxablate.models.layout import weights
from jaxablate.models.shape import ShapeConfig, untrained

SHAPE = {"layers": 2, "hidden": 64, "mlp": 96, "heads": 4, "kv_heads": 2, "head_dim": 16}


def test_weights_have_the_documented_deviations_and_the_seed_decides_them():
    config = ShapeConfig(family="qwen3", **SHAPE).decoder(vocab_size=256, eos_id=1, pad_id=0)
    found = weights(untrained(config, seed=0))
    again = weights(untrained(config, seed=0))
    other = weights(untrained(config, seed=1))
    for path, array in found.items():
        array = np.asarray(array)
        assert np.array_equal(array, again[path])
        if "norm" in path:
            assert (array == 1).all()
            continue
        assert not np.array_equal(array, other[path])
        residual = path.endswith(("attention/o/weight", "mlp/down/weight"))
        assert array.std() == pytest.approx(0.02 / (2 if residual else 1), rel=0.1), path


@pytest.mark.parametrize("family", ["ministral3", "qwen3"])
def test_transformers_loads_what_a_shape_says_and_computes_the_same(family, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from jaxablate.language_model import LanguageModel

    config = ShapeConfig(family=family, **SHAPE).decoder(vocab_size=256, eos_id=1, pad_id=0)
    decoder = untrained(config, seed=0)
    save_hf(decoder, config, tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype=torch.float32
    )
    tokens = np.random.default_rng(0).integers(0, 256, (1, 12))
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(tokens)).logits.numpy()
    found = np.asarray(LanguageModel(decoder, config).logits(tokens))
    np.testing.assert_allclose(found, wanted, atol=2e-5)
