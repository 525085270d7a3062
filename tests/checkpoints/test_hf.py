import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest

from jaxablate.checkpoints.hf import load_hf, read_hf, save_hf
from jaxablate.checkpoints.plan import plan_load
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh
from jaxablate.models.families import FAMILIES
from jaxablate.models.layout import weights
from tests.checkpoints.tiny import config_json, random_tensors, tensors_of, write_folder

MESHES = ["data=8", "fsdp=8", "tensor=8", "fsdp=2,tensor=2", "data=2,fsdp=2,tensor=2"]


def _same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype, name
        assert value.shape == right[name].shape, name
        assert value.tobytes() == right[name].tobytes(), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hf") / "model"
    hf_config = config_json()
    return write_folder(path, hf_config, random_tensors(hf_config), shards=3)


@pytest.mark.parametrize(
    ("tied", "dtype", "layout"),
    [(True, ml_dtypes.bfloat16, "loop"), (False, np.float32, "loop"), (False, np.float32, "scan")],
)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_there_and_back_gives_the_same_names_types_and_bytes(tmp_path, family, tied, dtype, layout):
    hf_config = config_json(family, tie_word_embeddings=tied)
    tensors = random_tensors(hf_config, dtype)
    write_folder(tmp_path / "in", hf_config, tensors)
    name = str(np.dtype(dtype))
    decoder, config = load_hf(tmp_path / "in", dtype=name, layout=layout)
    save_hf(decoder, config, tmp_path / "out", max_shard_bytes=30_000)
    _same(tensors_of(tmp_path / "out"), tensors)
    again, config_again = load_hf(tmp_path / "out", dtype=name, layout=layout)
    assert config_again == config
    left, right = weights(again), weights(decoder)
    assert all(np.array_equal(left[path], right[path]) for path in right)


@pytest.mark.parametrize("layout", ["loop", "scan"])
@pytest.mark.parametrize("mesh", MESHES)
def test_a_sharded_load_equals_the_load_on_one_device(folder, mesh, layout):
    whole = weights(load_hf(folder, dtype="float32", layout=layout)[0])
    mesh = make_mesh(parse_mesh(mesh))
    split = weights(load_hf(folder, dtype="float32", mesh=mesh, layout=layout)[0])
    assert whole.keys() == split.keys()
    for path, array in whole.items():
        assert np.array_equal(split[path], array), path
        assert split[path].sharding.mesh == mesh


def test_a_mesh_really_splits_the_large_weights(folder):
    mesh = make_mesh(parse_mesh("fsdp=2,tensor=2"))
    split = weights(load_hf(folder, dtype="float32", mesh=mesh)[0])
    up = split["layers/0/mlp/up/weight"]
    assert {shard.data.shape for shard in up.addressable_shards} == {(24, 16)}


def test_the_two_layouts_hold_the_same_numbers(folder):
    loop = weights(load_hf(folder, dtype="bfloat16")[0])
    scan = weights(load_hf(folder, dtype="bfloat16", layout="scan")[0])
    for path, stack in scan.items():
        rest = path.removeprefix("layers/")
        for layer in range(2) if path != rest else ():
            assert np.array_equal(stack[layer], loop[f"layers/{layer}/{rest}"])
    assert np.array_equal(scan["head/weight"], loop["head/weight"])


def test_the_report_counts_types_and_names_what_is_not_read(folder, tmp_path):
    report = read_hf(folder, dtype="bfloat16").report
    assert report["dtypes"] == {"BF16": 21}
    assert report["dequantised"] == 0
    hf_config = config_json(use_cache=True)
    tensors = random_tensors(hf_config)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.float32)
    write_folder(tmp_path, hf_config, tensors)
    report = read_hf(tmp_path, dtype="bfloat16").report
    assert report["dtypes"] == {"BF16": 20, "F32": 1}
    assert report["ignored_tensors"] == {"rotary tables are computed": 1}
    assert report["ignored_config_keys"] == ["use_cache"]
    json.dumps(report)


def test_all_zero_weights_are_weights(tmp_path):
    hf_config = config_json()
    tensors = {name: value * 0 for name, value in random_tensors(hf_config).items()}
    decoder, _ = load_hf(write_folder(tmp_path, hf_config, tensors), dtype="float32")
    assert all((np.asarray(array) == 0).all() for array in weights(decoder).values())


class TestTying:
    """The file decides, as in transformers 5."""

    def _load(self, folder, tied, change):
        hf_config = config_json(tie_word_embeddings=tied)
        tensors = random_tensors(config_json())
        change(tensors)
        return load_hf(write_folder(folder, hf_config, tensors), dtype="float32")

    def test_a_head_of_its_own_is_used_whatever_the_config_says(self, tmp_path):
        decoder, config = self._load(tmp_path, True, lambda tensors: None)
        assert not config.tied
        assert not np.array_equal(decoder.head.weight[...], decoder.embedding.weight[...])

    def test_a_head_equal_to_the_embedding_is_tied_if_the_config_says_so(self, tmp_path):
        def copy(tensors):
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

        decoder, config = self._load(tmp_path / "tied", True, copy)
        assert config.tied
        assert decoder.head is None
        report = plan_load(tmp_path / "tied", layout="loop").report
        assert report["ignored_tensors"] == {"copy of the tied embedding": 1}
        assert not self._load(tmp_path / "untied", False, copy)[1].tied

    def test_without_a_head_the_embedding_is_the_head(self, tmp_path):
        decoder, config = self._load(tmp_path, False, lambda tensors: tensors.pop("lm_head.weight"))
        assert config.tied
        assert decoder.head is None

    def test_with_a_head_alone_it_is_the_embedding(self, tmp_path):
        def drop(tensors):
            tensors.pop("model.embed_tokens.weight")

        decoder, _ = self._load(tmp_path, True, drop)
        wanted = random_tensors(config_json())["lm_head.weight"].astype(np.float32)
        assert np.array_equal(decoder.embedding.weight[...], wanted)


class TestFP8:
    """Ministral 3's files: an 8-bit matrix and two numbers beside it."""

    def _folder(self, path, change=lambda tensors: None, **options):
        hf_config = config_json("ministral3", quantization_config=_FP8, **options)
        tensors = random_tensors(hf_config)
        for name in [n for n in tensors if "_proj" in n]:
            stem = name.removesuffix(".weight")
            tensors[name] = tensors[name].astype(ml_dtypes.float8_e4m3fn)
            tensors[f"{stem}.weight_scale_inv"] = np.asarray(0.37, ml_dtypes.bfloat16)
            tensors[f"{stem}.activation_scale"] = np.asarray(1.5, ml_dtypes.bfloat16)
        change(tensors)
        return write_folder(path, hf_config, tensors), tensors

    @pytest.mark.parametrize("layout", ["loop", "scan"])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_the_matrix_is_the_product_in_float32(self, tmp_path, dtype, layout):
        folder, tensors = self._folder(tmp_path)
        loaded = read_hf(folder, dtype=dtype, layout=layout)
        path = "layers/1/attention/q/weight" if layout == "loop" else "layers/attention/q/weight"
        got = weights(loaded.decoder)[path]
        name = "model.layers.1.self_attn.q_proj"
        scale = np.float32(tensors[f"{name}.weight_scale_inv"])
        wanted = (tensors[f"{name}.weight"].astype(np.float32) * scale).astype(dtype)
        assert np.array_equal(got if layout == "loop" else got[1], wanted)
        assert loaded.report["dtypes"] == {"BF16": 7, "F8_E4M3": 14}
        assert loaded.report["dequantised"] == 14
        assert loaded.report["ignored_tensors"] == {"scale of an 8-bit weight": 28}

    def test_an_export_is_no_longer_quantised(self, tmp_path):
        folder, _ = self._folder(tmp_path / "in")
        save_hf(*load_hf(folder, dtype="bfloat16"), tmp_path / "out")
        written = json.loads((tmp_path / "out" / "config.json").read_text())
        assert "quantization_config" not in written
        assert {t.dtype.name for t in tensors_of(tmp_path / "out").values()} == {"bfloat16"}

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("weight_scale_inv", np.ones((2, 2), np.float32), "one number, got F32"),
            ("weight_scale_inv", np.asarray(3, np.int32), "one number, got I32"),
            ("weight_scale_inv", np.asarray(np.nan, np.float32), "its scale is nan"),
            ("weight_scale_inv", None, "weight_scale_inv is missing"),
            ("weight", np.full((32, 32), 0x7F, np.uint8).view(ml_dtypes.float8_e4m3fn), "NaN"),
        ],
    )
    def test_a_wrong_scale_is_refused(self, tmp_path, name, value, words):
        full = f"model.layers.1.self_attn.q_proj.{name}"

        def change(tensors):
            tensors.pop(full)
            if value is not None:
                tensors[full] = value

        folder, _ = self._folder(tmp_path, change)
        with pytest.raises(UserError, match=words) as error:
            load_hf(folder, dtype="bfloat16")
        assert "model.layers.1.self_attn.q_proj" in str(error.value)

    def test_a_scale_beside_a_matrix_that_needs_none_is_unexpected(self, tmp_path):
        def change(tensors):
            name = "model.layers.1.self_attn.q_proj.weight"
            tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)

        folder, _ = self._folder(tmp_path, change)
        with pytest.raises(UserError, match=r"does not have.*weight_scale_inv"):
            load_hf(folder, dtype="bfloat16")


_FP8 = {
    "quant_method": "fp8",
    "activation_scheme": "static",
    "weight_block_size": None,
    "dequantize": False,
    "modules_to_not_convert": ["lm_head", "lm_head"],
}


class TestWrapper:
    """The image-text wrapper: its text tower is read, and written as the text model it is."""

    @pytest.mark.parametrize("style", ["language_model.model.", "model.language_model."])
    def test_the_text_tower_is_read_under_both_names(self, tmp_path, style):
        text = config_json("ministral3")
        tensors = random_tensors(text)
        text.pop("architectures")
        outer = {
            "model_type": "mistral3",
            "architectures": ["Mistral3ForConditionalGeneration"],
            "text_config": text,
            "vision_config": {"model_type": "pixtral"},
            "tie_word_embeddings": False,
        }
        head = "lm_head." if style.startswith("model") else "language_model.lm_head."
        wrapped = {
            n.replace("model.", style, 1)
            if n.startswith("model.")
            else n.replace("lm_head.", head): t
            for n, t in tensors.items()
        }
        wrapped["vision_tower.patch_conv.weight"] = np.ones((2, 2), np.float32)
        wrapped["multi_modal_projector.norm.weight"] = np.ones(2, np.float32)
        loaded = read_hf(write_folder(tmp_path / "in", outer, wrapped), dtype="bfloat16")
        assert loaded.report["ignored_tensors"] == {"images are not part of the text tower": 2}
        save_hf(loaded.decoder, loaded.config, tmp_path / "out")
        _same(tensors_of(tmp_path / "out"), tensors)
        written = json.loads((tmp_path / "out" / "config.json").read_text())
        assert written["architectures"] == ["Ministral3ForCausalLM"]
        assert load_hf(tmp_path / "out", dtype="bfloat16")[1] == loaded.config


class TestExport:
    """A folder that transformers loads, whole or not at all."""

    @pytest.mark.parametrize(
        ("family", "shard_bytes"), [*((name, 30_000) for name in FAMILIES), ("llama", 10**9)]
    )
    def test_transformers_computes_the_same_logits(self, tmp_path, family, shard_bytes):
        torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
        hf_config = config_json(family)
        first = write_folder(tmp_path / "in", hf_config, random_tensors(hf_config, np.float32))
        decoder, config = load_hf(first, dtype="float32")
        save_hf(decoder, config, tmp_path / "out", max_shard_bytes=shard_bytes)
        rows = torch.arange(20)[None]
        transformers.utils.logging.disable_progress_bar()
        with torch.no_grad():
            before, after = (
                transformers.AutoModelForCausalLM.from_pretrained(folder)(rows).logits
                for folder in (first, tmp_path / "out")
            )
        assert torch.equal(before, after)

    def test_tokenizer_and_generation_files_come_along_and_others_do_not(self, folder, tmp_path):
        origin = tmp_path / "origin"
        origin.mkdir()
        for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
            (origin / name).write_text(f"content of {name}")
        (origin / "modeling_x.py").write_text("raise SystemExit")
        save_hf(*load_hf(folder, dtype="bfloat16"), tmp_path / "out", tokenizer_files_from=origin)
        assert (tmp_path / "out" / "tokenizer.json").read_text() == "content of tokenizer.json"
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
        ]

    def test_a_full_folder_is_refused_and_kept(self, folder, tmp_path):
        (tmp_path / "mine").write_text("precious")
        decoder, config = load_hf(folder, dtype="bfloat16")
        with pytest.raises(UserError, match="not empty"):
            save_hf(decoder, config, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_a_tokenizer_file_that_is_a_fifo_does_not_hang_and_leaves_nothing(
        self, folder, tmp_path
    ):
        origin = tmp_path / "origin"
        origin.mkdir()
        os.mkfifo(origin / "tokenizer.json")
        decoder, config = load_hf(folder, dtype="bfloat16")
        with pytest.raises(UserError, match="fifo"):
            save_hf(decoder, config, tmp_path / "out", tokenizer_files_from=origin)
        assert [path.name for path in tmp_path.iterdir()] == ["origin"]

    def test_a_disk_that_fills_up_leaves_nothing(self, folder, tmp_path, monkeypatch):
        decoder, config = load_hf(folder, dtype="bfloat16")

        def full(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("jaxablate.checkpoints.export.write_json", full)
        with pytest.raises(OSError, match="No space"):
            save_hf(decoder, config, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


def test_code_in_the_folder_is_never_run(tmp_path):
    import sys

    hf_config = config_json(auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    write_folder(tmp_path, hf_config, random_tensors(hf_config))
    (tmp_path / "modeling_evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    before = set(sys.modules)
    load_hf(tmp_path, dtype="bfloat16")
    assert not (tmp_path / "canary").exists()
    assert not any("evil" in name for name in set(sys.modules) - before)


def test_the_words_of_dtype_and_layout_are_checked(folder):
    with pytest.raises(UserError, match=r"'bf15'.*did you mean"):
        load_hf(folder, dtype="bf15")
    with pytest.raises(UserError, match=r"'scann'.*did you mean 'scan'"):
        load_hf(folder, dtype="bf16", layout="scann")


def test_logits_do_not_depend_on_where_the_weights_lie(folder):
    mesh = make_mesh(parse_mesh("fsdp=2,tensor=2"))
    hidden = jax.random.normal(jax.random.key(0), (1, 3, 32))
    one, _ = load_hf(folder, dtype="float32")
    many, _ = load_hf(folder, dtype="float32", mesh=mesh)
    np.testing.assert_allclose(one.unembed(hidden), many.unembed(hidden), atol=1e-5)
