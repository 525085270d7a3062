import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxablate.checkpoints.peft import load_peft, save_peft
from jaxablate.core.errors import UserError
from jaxablate.models.lora import Factors, LoRA, attach
from tests.engine.models import random_model
from tests.latent.reference import as_lora, logits, parameters, peft_pair, torch_logits
from tests.models.reference import masks, ours, tokens
from tests.tiny import tiny_hf

# PEFT asks transformers under an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TOLERANCE = 1e-5
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def close(got, wanted):
    np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=TOLERANCE, atol=TOLERANCE)


def equal(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def some_lora(config, paths=("layers/0/attention/q", "layers/0/attention/v")):
    rng = np.random.default_rng(0)
    sizes = {"q": (32, 32), "v": (16, 32), "down": (32, 64)}

    def draw(*shape):
        return jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)

    factors = {}
    for path in paths:
        out, size_in = sizes[path.rpartition("/")[2]]
        factors[path] = Factors(draw(4, size_in), draw(out, 4))
    return LoRA(factors=factors, rank=4, alpha=6.0, dropout=0.25)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("qwen3", {"target_modules": ["q_proj", "mlp.down_proj"], "lora_dropout": 0.1}),
        ("llama", {"target_modules": ["v_proj"], "layers_to_transform": [0, 2]}),
        ("llama", {"target_modules": ["model.layers.1.self_attn.o_proj", "up_proj"]}),
    ],
)
def test_an_adapter_that_peft_wrote_gives_pefts_logits(tmp_path, family, settings):
    torch = pytest.importorskip("torch")

    adapted, decoder, config = peft_pair(family, save_to=tmp_path / "adapter", **settings)
    lora = load_peft(tmp_path / "adapter", config)
    equal(lora.factors, as_lora(parameters(adapted)).factors)
    assert (lora.rank, lora.alpha) == (4, 6.0)
    assert lora.dropout == settings.get("lora_dropout", 0.0)
    rows, mask = tokens(config.vocab_size), masks()["prefix_lm"]
    with torch.no_grad():
        close(logits(attach(decoder, lora), rows, mask), torch_logits(adapted, rows, mask))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_peft_loads_an_export_and_gives_our_logits(tmp_path, family):
    peft = pytest.importorskip("peft")
    import torch

    adapted, decoder, config = peft_pair(family)
    whole = as_lora(parameters(adapted))
    subsets = {
        "all": list(whole.factors),
        "first layers": [p for p in whole.factors if p.endswith("/v") and "/2/" not in p],
        "no grid": [p for p in whole.factors if p.endswith("/q") != ("/1/" in p)],
    }
    for name, paths in subsets.items():
        lora = LoRA(factors={p: whole.factors[p] for p in paths}, rank=4, alpha=6.0)
        save_peft(lora, config, tmp_path / name, base_model="org/base")
        equal(load_peft(tmp_path / name, config), lora)
        hf_config, model = tiny_hf(family)
        equal(ours(model, hf_config.to_dict()).embedding.weight[...], decoder.embedding.weight[...])
        loaded = peft.PeftModel.from_pretrained(model, tmp_path / name).eval()
        assert set(parameters(loaded)) == {(p, letter) for p in paths for letter in "AB"}
        rows, mask = tokens(config.vocab_size), masks()["prefix_lm"]
        with torch.no_grad():
            close(logits(attach(decoder, lora), rows, mask), torch_logits(loaded, rows, mask))


def test_names_and_bits_in_the_file_are_those_peft_writes(tmp_path):
    adapted, _, config = peft_pair("llama", save_to=tmp_path / "theirs")
    save_peft(as_lora(parameters(adapted)), config, tmp_path / "ours")
    theirs, mine = (
        load_file(tmp_path / n / "adapter_model.safetensors") for n in ("theirs", "ours")
    )
    assert theirs.keys() == mine.keys()
    equal(mine, theirs)
    assert {file.name for file in (tmp_path / "ours").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_bfloat16_factors_survive_the_round_trip(tmp_path):
    config = random_model().config
    lora = jax.tree.map(lambda x: x.astype(jnp.bfloat16), some_lora(config))
    save_peft(lora, config, tmp_path / "out")
    back = load_peft(tmp_path / "out", config, dtype="bfloat16")
    assert jax.tree.leaves(back)[0].dtype == jnp.bfloat16
    equal(back, lora)


def test_a_target_that_peft_would_match_in_no_layer_is_refused_and_nothing_is_overwritten(tmp_path):
    config = random_model().config
    save_peft(some_lora(config), config, tmp_path / "out")
    before = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    with pytest.raises(UserError, match="not empty"):
        save_peft(some_lora(config), config, tmp_path / "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == before
    wrong = some_lora(config, ("layers/3/attention/q",))
    with pytest.raises(UserError, match="3 layers"):
        save_peft(wrong, config, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def folder(tmp_path):
    config = random_model().config
    save_peft(some_lora(config), config, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(FIRST), "lacks .*layers.0.self_attn.q_proj.lora_A"),
        (lambda t: t.update(extra=t[FIRST]), "with 'extra'"),
        (lambda t: t.update({FIRST: t[FIRST].T}), r"q_proj.lora_A.*\[4, 32\], got \[32, 4\]"),
        (lambda t: t.update({FIRST: t[FIRST].astype(np.int32)}), "q_proj.lora_A.* got I32"),
        (lambda t: t.update({FIRST: t[FIRST] * np.nan}), "q_proj.lora_A.*not finite"),
        (
            lambda t: t.update({FIRST.replace(".0.", ".1."): t[FIRST]}),
            "with .*layers.1.self_attn.q_proj",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(folder, change, said):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match=said):
        load_peft(folder, random_model().config)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"a_setting_of_tomorrow": 1.5}, "a_setting_of_tomorrow"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"r": True}, "r must be"),
        ({"r": 0}, "r must be"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"lora_dropout": 1}, "lora_dropout"),
        ({"target_modules": ".*q_proj"}, "target_modules"),
        ({"target_modules": ["q_porj"]}, "did you mean 'q_proj'"),
        ({"target_modules": []}, "name no module"),
        ({"layers_to_transform": []}, "name no module"),
        ({"layers_to_transform": [3]}, "layers 0 to 2"),
        ({"layers_pattern": "h"}, "layers_pattern"),
        ({"r": 8}, r"lora_A.*\[8, 32\]"),
    ],
)
def test_a_setting_that_we_do_not_do_is_named(folder, setting, said):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting))
    with pytest.raises(UserError, match=said):
        load_peft(folder, random_model().config)


def test_missing_files_and_pickles_are_refused(tmp_path, folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="pickle"):
        load_peft(folder, random_model().config)
    (folder / "adapter_config.json").write_text("[]")
    (folder / "adapter_model.bin").rename(folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match="object"):
        load_peft(folder, random_model().config)
    with pytest.raises(UserError, match="no such"):
        load_peft(tmp_path / "nowhere", random_model().config)


def test_one_layer_may_be_named_by_a_number(folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers_to_transform": 0}))
    assert set(load_peft(folder, random_model().config).factors) == {
        "layers/0/attention/q",
        "layers/0/attention/v",
    }
