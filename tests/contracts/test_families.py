"""What every family owes: each config key has a fate, each tensor a name both ways."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.mesh import RULES as MESH_RULES
from jaxablate.models.decoder import abstract
from jaxablate.models.families import FAMILIES, wrapper
from jaxablate.models.family import family_of, logical_axes
from jaxablate.models.layout import build, by_path, weights
from tests import tiny

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

EVERY = pytest.mark.parametrize("name", FAMILIES)


def default_config(name):
    """The class's own defaults, as save_pretrained would write them."""
    return json.loads(transformers.AutoConfig.for_model(name).to_json_string(use_diff=False))


def tiny_config(name, **overrides):
    values = {**tiny.COMMON, **tiny.FAMILIES[name], **overrides}
    return transformers.AutoConfig.for_model(name, **values).to_dict()


def same_bits(ours, theirs):
    return np.array_equal(np.asarray(ours).view(np.int32), theirs.numpy().view(np.int32))


def test_every_family_has_a_tiny_model():
    assert tiny.FAMILIES.keys() == FAMILIES.keys()


@EVERY
def test_every_key_of_the_default_config_is_read_fixed_or_ignored_with_a_reason(name):
    family, source = FAMILIES[name], default_config(name)
    config = family.from_hf(source)
    assert config.family == name
    assert all(len(reason) > 5 for reason in family.ignored_keys(source).values())


@EVERY
def test_defaults_are_those_of_the_config_class(name):
    assert FAMILIES[name].from_hf({"model_type": name}) == FAMILIES[name].from_hf(
        default_config(name)
    )


@EVERY
@pytest.mark.parametrize(
    ("key", "nearest"), [("hidden_sizes", "hidden_size"), ("rope_paramters", "rope_parameters")]
)
def test_an_invented_key_is_refused_by_name(name, key, nearest):
    with pytest.raises(UserError, match=f"{name} does not know the key '{key}'.*'{nearest}'"):
        family_of({"model_type": name}).from_hf({"model_type": name, key: 1})


@EVERY
def test_a_key_that_matters_changes_the_decoder(name):
    # What is read is used: each handled size or flag ends up in the config.
    family, source = FAMILIES[name], tiny_config(name)
    before = family.from_hf(source)
    changes = {
        "vocab_size": 200,
        "hidden_size": 64,
        "intermediate_size": 80,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 24,
        "max_position_embeddings": 77,
        "rms_norm_eps": 1e-3,
        "tie_word_embeddings": not source["tie_word_embeddings"],
        "rope_parameters": {**source["rope_parameters"], "rope_theta": 123.0},
        "bos_token_id": 9,
        "eos_token_id": [8, 9],
        "pad_token_id": 7,
    }
    for key, value in changes.items():
        changed = {**source, key: value}
        changed.pop("layer_types", None)
        assert family.from_hf(changed) != before, key


@EVERY
def test_old_and_new_spelling_mean_the_same(name):
    source = tiny_config(name)
    old = {key: value for key, value in source.items() if key != "rope_parameters"}
    parameters = dict(source["rope_parameters"])
    old["rope_theta"] = parameters.pop("rope_theta")
    old["torch_dtype"] = "bfloat16"
    kind = parameters.pop("rope_type")
    old["rope_scaling"] = None if kind == "default" else {"type": kind, **parameters}
    assert FAMILIES[name].from_hf(old) == FAMILIES[name].from_hf({**source, "dtype": "bfloat16"})


@EVERY
@pytest.mark.parametrize("overrides", [{}, {"num_hidden_layers": 1, "eos_token_id": [2, 3]}])
def test_written_config_is_read_again_by_us_and_by_transformers(name, overrides, tmp_path):
    family = FAMILIES[name]
    config = family.from_hf(tiny_config(name, **overrides))
    written = family.to_hf(config, dtype="bfloat16")
    assert family.from_hf(json.loads(json.dumps(written))) == config
    (tmp_path / "config.json").write_text(json.dumps(written))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.model_type == name
    assert theirs.dtype == torch.bfloat16
    assert family.from_hf(theirs.to_dict() | {"dtype": "bfloat16"}) == config


@EVERY
def test_a_decoder_made_without_a_file_can_be_written(name):
    from dataclasses import replace

    config = replace(FAMILIES[name].from_hf(tiny_config(name)), source={})
    assert FAMILIES[name].from_hf(FAMILIES[name].to_hf(config)) == config


@EVERY
def test_keys_of_the_source_that_we_do_not_use_are_kept(name):
    source = tiny_config(name) | {"initializer_range": 0.123, "transformers_version": "4.1"}
    written = FAMILIES[name].to_hf(FAMILIES[name].from_hf(source))
    assert (written["initializer_range"], written["transformers_version"]) == (0.123, "4.1")


@EVERY
@pytest.mark.parametrize("tied", [True, False])
def test_there_is_one_name_for_every_weight_and_one_weight_for_every_tensor(name, tied):
    hf_config, model = tiny.tiny_hf(name, tie_word_embeddings=tied)
    family = FAMILIES[name]
    config = family.from_hf(hf_config.to_dict())
    names = family.hf_names(config)
    tensors = dict(model.named_parameters())  # a tied head is not named twice
    assert names.keys() == by_path(abstract(config, dtype="float32")).keys()
    assert sorted(names.values()) == sorted(tensors)
    shapes = by_path(abstract(config, dtype="float32"))
    for path, hf_name in names.items():
        assert shapes[path].shape == tuple(tensors[hf_name].shape), path


@EVERY
def test_weights_survive_the_way_there_and_back_bit_by_bit(name):
    hf_config, model = tiny.tiny_hf(name)
    family = FAMILIES[name]
    config = family.from_hf(hf_config.to_dict())
    names, before = family.hf_names(config), model.state_dict()
    decoder = build(config, {p: jnp.asarray(before[n].numpy()) for p, n in names.items()})
    after = {names[path]: torch.tensor(np.asarray(a)) for path, a in weights(decoder).items()}

    again = transformers.AutoConfig.for_model(**family.to_hf(config))
    empty = transformers.AutoModelForCausalLM.from_config(again, attn_implementation="eager")
    missing, unexpected = empty.load_state_dict(after, strict=False)
    assert unexpected == []
    assert missing == (["lm_head.weight"] if config.tied else [])
    assert all(same_bits(after[key], before[key]) for key in after)
    rows = torch.arange(40)[None] % config.vocab_size
    with torch.no_grad():
        assert same_bits(empty.float().eval()(rows).logits, model(rows).logits)


@EVERY
@pytest.mark.parametrize("layout", ["loop", "scan"])
def test_every_axis_of_every_weight_has_a_meaning(name, layout):
    config = FAMILIES[name].from_hf(tiny_config(name))
    for path, leaf in by_path(abstract(config, dtype="float32", layout=layout)).items():
        axes = logical_axes(path)
        assert len(axes) == len(leaf.shape), path
        assert {axis for axis in axes if axis} <= MESH_RULES.keys(), path
        if len([axis for axis in axes if axis]) == 2:
            size = leaf.shape[axes.index("embed")]
            assert size == config.hidden_size, path


@EVERY
def test_file_decides_whether_the_head_is_tied(name):
    family = FAMILIES[name]
    config = family.from_hf(tiny_config(name))
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    assert not family.with_tying_of(config, {embedding, head}).tied
    only_embedding = family.with_tying_of(config, {embedding})
    assert only_embedding.tied
    rest = set(family.hf_names(only_embedding).values()) - {embedding}
    assert family.locate(only_embedding, rest | {embedding})["embedding/weight"] == embedding
    only_head = family.with_tying_of(config, {head})
    assert family.locate(only_head, rest | {head})["embedding/weight"] == head


@EVERY
def test_missing_tensors_are_named(name):
    family = FAMILIES[name]
    config = family.from_hf(tiny_config(name))
    names = set(family.hf_names(config).values())
    lost = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(UserError, match=f"the checkpoint lacks {lost}$"):
        family.locate(config, names - {lost})
    with pytest.raises(UserError, match=r"lacks .* and [0-9]+ more$"):
        family.locate(config, set())


@pytest.mark.parametrize("name", ["mistral", "ministral3"])
def test_text_tower_of_an_image_text_model_is_found_under_both_forms(name, tmp_path):
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "image_size": 28,
        "patch_size": 14,
    }
    text = {"model_type": name, **tiny.COMMON, **tiny.FAMILIES[name], "tie_word_embeddings": False}
    hf_config = transformers.Mistral3Config(
        text_config=text, vision_config=vision, tie_word_embeddings=False
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(hf_config).float().eval()
    model.save_pretrained(tmp_path)
    source = json.loads((tmp_path / "config.json").read_text())
    family = family_of(source)
    assert family.name == name
    config = family.from_hf(source)

    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        in_file = set(file.keys())
    in_memory = set(model.state_dict())
    for names in (in_file, in_memory):
        located = family.locate(config, names)
        assert len(set(located.values())) == len(located)
        unread = names - set(located.values())
        assert all(family.ignored_tensor(config, tensor) for tensor in unread)
        assert unread
    assert family.locate(config, in_file) == family.hf_names(config)
    assert wrapper.is_wrapper(family.to_hf(config))
    assert family.from_hf(family.to_hf(config)) == config

    # Written alone, the text tower computes the same logits.
    alone = family.text_tower(config)
    twin = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**family.to_hf(alone))
    )
    memory, located = model.state_dict(), family.locate(config, in_memory)
    twin.load_state_dict(
        {hf_name: memory[located[path]] for path, hf_name in family.hf_names(alone).items()}
    )
    rows = torch.arange(20)[None]
    with torch.no_grad():
        assert same_bits(twin.float().eval()(rows).logits, model(rows).logits)
