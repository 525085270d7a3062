import dataclasses
import functools
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.checkpoints import open_checkpoint, store
from jaxablate.checkpoints.convert import convert
from jaxablate.checkpoints.finetuned import is_finetuned, open_finetuned
from jaxablate.checkpoints.open import tokenizer_folder
from jaxablate.checkpoints.peft import load_peft
from jaxablate.checkpoints.steps import StepStore
from jaxablate.cli import main
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh
from jaxablate.language_model import load
from jaxablate.latent import lora
from jaxablate.models.layout import weights
from jaxablate.models.lora import shapes, split_path
from jaxablate.runs.folder import RunFolder
from tests.checkpoints.tiny import config_json, random_tensors, write_folder

SETTINGS = lora.LoRAConfig(rank=2, alpha=6.0, targets=("q", "down"))
TOKENS = np.array([[5, 7, 11, 13, 17]])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    hf_config = config_json("qwen3", tie_word_embeddings=True)
    folder = tmp_path_factory.mktemp("base")
    (folder / "tokenizer.json").write_text("{}")
    return write_folder(folder, hf_config, random_tensors(hf_config))


@functools.cache
def opened(base, layout="loop"):
    return open_checkpoint(base, dtype="float32", layout=layout)


def record_of(base, *, kind="full", layout="loop"):
    _, config, source = opened(base)
    digest = source["weights"]
    model = {
        "kind": kind,
        "base": {"path": str(base), "weights": digest},
        "layout": layout,
        "config": dataclasses.asdict(config),
        "lora": {"rank": 2, "alpha": 6.0, "dropout": 0.0} if kind == "lora" else None,
        "mask": "prefix_lm",
        "dtype": "bfloat16",
    }
    return {"model": model}


def random_lora(config):
    random = np.random.default_rng(1)

    def draw(*shape):
        return jnp.asarray(random.normal(size=shape).astype(np.float32))

    factors = {}
    for path in lora.resolve_targets(SETTINGS, config):
        out, size_in = shapes(config)[split_path(path)[1]]
        factors[path] = lora.Factors(draw(2, size_in), draw(out, 2))
    return lora.LoRA(factors=factors, rank=2, alpha=6.0)


def save_run(root, arrays, record, *, step=20, status="done", chosen=None):
    """A run folder as finetuning leaves it."""
    with RunFolder(root, "finetune", {"seed": 0}) as run:
        store = StepStore(root / "checkpoints", fence=run.fence)
        rest = {"step": jnp.int32(step), "opt_state/mu": jnp.ones((3, 3))}
        store.save(step, {**arrays, **rest}, record)
        store.wait()
        chosen = chosen or f"checkpoints/step-{step:08d}"
        summary = {"stop_reason": "finished", "checkpoints": {"chosen": chosen}}
        (root / "summary.json").write_text(json.dumps(summary))
        run.finish(status)
    return root


def full_arrays(base, layout="loop", only=""):
    """Every weight that has `only` in its path, changed."""
    decoder, _, _ = opened(base, layout)
    chosen = {path: np.asarray(w) for path, w in weights(decoder).items() if only in path}
    return {f"params/{path}": jnp.asarray(w * 1.25 + 0.003) for path, w in chosen.items()}


def lora_arrays(base):
    config = opened(base)[1]
    arrays = {}
    for path, factors in random_lora(config).factors.items():
        arrays[f"params/{path}/lora_a"], arrays[f"params/{path}/lora_b"] = factors
    return arrays


@pytest.fixture(scope="module")
def full_run(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs") / "full"
    return save_run(root, full_arrays(base), record_of(base))


@pytest.fixture(scope="module")
def lora_run(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs") / "lora"
    return save_run(root, lora_arrays(base), record_of(base, kind="lora"))


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for path, array in left.items():
        assert array.dtype == right[path].dtype, path
        assert np.asarray(array).tobytes() == np.asarray(right[path]).tobytes(), path


@pytest.mark.parametrize("asked", ["loop", "scan"])
@pytest.mark.parametrize("stored", ["loop", "scan"])
def test_trained_weights_come_back_bit_for_bit_in_any_layout(base, tmp_path, stored, asked):
    run = save_run(tmp_path / "run", full_arrays(base, stored), record_of(base, layout=stored))
    decoder, config, _ = open_finetuned(run, dtype="float32", layout=asked)
    wanted = {p.removeprefix("params/"): w for p, w in full_arrays(base, asked).items()}
    assert decoder.layout == asked
    assert config == opened(base)[1]
    assert_equal(weights(decoder), wanted)


def test_weights_that_were_not_trained_are_those_of_the_base(base, tmp_path):
    changed = full_arrays(base, only="/mlp/")
    run = save_run(tmp_path / "run", changed, record_of(base))
    found = weights(open_finetuned(run, dtype="float32")[0])
    wanted = weights(opened(base)[0])
    wanted |= {path.removeprefix("params/"): weight for path, weight in changed.items()}
    assert len(changed) == 2 * 3
    assert_equal(found, wanted)


def test_narrowing_the_trained_weights_rounds_to_nearest_even(base, full_run):
    found = weights(open_finetuned(full_run, dtype="bfloat16")[0])
    for path, exact in full_arrays(base).items():
        rounded = np.asarray(exact).astype("bfloat16")
        assert np.array_equal(np.asarray(found[path.removeprefix("params/")]), rounded)


@pytest.mark.parametrize("layout", ["loop", "scan"])
def test_lora_is_merged(base, lora_run, layout):
    decoder, config, _ = open_finetuned(lora_run, dtype="float32", layout=layout)
    plain = opened(base, layout)[0]
    assert_equal(weights(decoder), weights(lora.merge(plain, random_lora(config))))
    factors = random_lora(config).factors["layers/1/attention/q"]
    before = weights(opened(base)[0])["layers/1/attention/q/weight"]
    by_hand = np.asarray(before) + 3.0 * np.asarray(factors.lora_b) @ np.asarray(factors.lora_a)
    merged = weights(open_finetuned(lora_run, dtype="float32")[0])["layers/1/attention/q/weight"]
    np.testing.assert_allclose(merged, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_mesh_changes_where_weights_live_and_not_what_they_are(kind, full_run, lora_run, base):
    run = full_run if kind == "full" else lora_run
    mesh = make_mesh(parse_mesh("fsdp=4,tensor=2"))
    split, _, source = open_finetuned(run, dtype="float32", mesh=mesh)
    whole, _, source_whole = open_finetuned(run, dtype="float32")
    reference = weights(open_checkpoint(base, dtype="float32", mesh=mesh)[0])
    assert source["weights"] == source_whole["weights"]
    for path, array in weights(split).items():
        assert array.sharding.is_equivalent_to(reference[path].sharding, array.ndim), path
        np.testing.assert_allclose(array, weights(whole)[path], rtol=1e-6, atol=1e-6)


def test_the_source_says_which_run_and_from_what(base, lora_run):
    source = open_finetuned(lora_run, dtype="float32")[2]
    assert source["format"] == "jaxablate-finetuned"
    assert source["path"] == str(lora_run.resolve())
    assert (source["run"], source["step"], source["mask"]) == ("lora", 20, "prefix_lm")
    assert source["stop_reason"] == "finished"
    assert source["base"]["weights"] == opened(base)[2]["weights"]
    assert len(source["weights"]) == 64
    json.dumps(source)


def test_the_digest_names_the_weights_and_not_the_files(base, tmp_path):
    def digest(name, arrays, **changes):
        run = save_run(tmp_path / name, arrays, record_of(base, **changes), step=len(name))
        return open_finetuned(run, dtype="float32")[2]["weights"]

    arrays = full_arrays(base)
    first, again = digest("a", arrays), digest("bb", arrays)
    assert first == again  # Orbax gives its files other names every time
    path = "params/layers/1/mlp/up/weight"
    raw = np.array(arrays[path])
    raw.view(np.uint8).reshape(-1)[7] ^= 1
    assert digest("ccc", {**arrays, path: jnp.asarray(raw)}) != first
    assert digest("dddd", full_arrays(base, only="/mlp/")) != first


def test_the_digest_of_lora_holds_its_scale(base, lora_run, tmp_path):
    first = open_finetuned(lora_run, dtype="float32")[2]["weights"]
    record = record_of(base, kind="lora")
    record["model"]["lora"]["alpha"] = 8.0
    run = save_run(tmp_path / "other", lora_arrays(base), record)
    assert open_finetuned(run, dtype="float32")[2]["weights"] != first


def test_one_opener_and_one_loader_for_runs_and_their_steps(base, full_run):
    step = full_run / "checkpoints" / "step-00000020"
    for folder in (full_run, step):
        assert is_finetuned(folder)
        _, _, source = open_checkpoint(folder, dtype="float32")
        assert source["run"] == "full"
        assert tokenizer_folder(folder, source) == base
    assert not is_finetuned(base)
    assert not is_finetuned(full_run / "checkpoints")
    lm = load(full_run)
    assert lm.folder == base
    assert not np.array_equal(lm.logits(TOKENS), load(base).logits(TOKENS))


@pytest.mark.parametrize("to", ["hf", "jaxablate"])
def test_a_run_is_converted_to_a_folder_of_its_own(base, lora_run, tmp_path, to):
    out = tmp_path / "out"
    convert(str(lora_run), out, to=to, dtype="float32")
    assert not is_finetuned(out)
    assert (out / "tokenizer.json").read_text() == "{}"
    assert_equal(
        weights(open_checkpoint(out, dtype="float32")[0]),
        weights(open_finetuned(lora_run, dtype="float32")[0]),
    )


def test_the_lora_of_a_run_becomes_a_peft_adapter(base, lora_run, full_run, tmp_path, capsys):
    assert main(["convert", str(lora_run), str(tmp_path / "adapter"), "--to", "peft"]) == 0
    assert "PEFT adapter of rank 2 for " in capsys.readouterr().out
    config = opened(base)[1]
    found, wanted = load_peft(tmp_path / "adapter", config), random_lora(config)
    assert (found.rank, found.alpha) == (wanted.rank, wanted.alpha)
    assert found.factors.keys() == wanted.factors.keys()
    for path, factors in wanted.factors.items():
        assert all(map(np.array_equal, found.factors[path], factors)), path
    assert main(["convert", str(full_run), str(tmp_path / "none"), "--to", "peft"]) == 2
    assert "there are no LoRA factors" in capsys.readouterr().err


def test_a_conversion_takes_the_type_that_the_run_computed_in(full_run, tmp_path):
    convert(str(full_run), tmp_path / "out", to="jaxablate", dtype=None)
    assert store.load(tmp_path / "out")[0].final_norm.weight[...].dtype == jnp.bfloat16


def test_a_finetuned_model_is_a_base_for_another(base, full_run, tmp_path):
    record = record_of(full_run, kind="lora")
    run = save_run(tmp_path / "second", lora_arrays(base), record)
    decoder, config, source = open_finetuned(run, dtype="float32")
    first = open_finetuned(full_run, dtype="float32")[0]
    assert_equal(weights(decoder), weights(lora.merge(first, random_lora(config))))
    assert source["base"]["run"] == "full"
    assert tokenizer_folder(run, source) == base


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_is_not_done_is_refused_but_its_steps_are_not(base, tmp_path, status):
    run = save_run(tmp_path / "run", full_arrays(base), record_of(base), status=status)
    with pytest.raises(UserError, match=f"is '{status}', wanted one that is done"):
        open_checkpoint(run, dtype="float32")
    open_checkpoint(run / "checkpoints" / "step-00000020", dtype="float32")


def test_a_step_is_opened_wherever_it_is_moved_to(full_run, tmp_path):
    moved = shutil.copytree(full_run / "checkpoints" / "step-00000020", tmp_path / "a" / "b" / "c")
    source = open_checkpoint(moved, dtype="float32")[2]
    assert (source["run"], source["stop_reason"]) == ("c", "unknown")
    assert source["weights"] == open_finetuned(full_run, dtype="float32")[2]["weights"]


def test_another_base_under_the_same_name_is_refused(base, tmp_path):
    copy = Path(shutil.copytree(base, tmp_path / "base"))
    run = save_run(tmp_path / "run", lora_arrays(copy), record_of(copy, kind="lora"))
    open_finetuned(run, dtype="float32")
    raw = bytearray((copy / "model.safetensors").read_bytes())
    raw[-2] ^= 1
    (copy / "model.safetensors").write_bytes(raw)
    with pytest.raises(UserError, match=r"was trained from weights '.*', but its base .* now has"):
        open_finetuned(run, dtype="float32")
    shutil.rmtree(copy)
    with pytest.raises(UserError, match=r"its base checkpoint cannot be opened: .*no such folder"):
        open_finetuned(run, dtype="float32")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("../elsewhere/step-00000020", "wanted a checkpoint of this run"),
        ("/etc", "wanted a checkpoint of this run"),
        ("checkpoints/step-00000040", "no such folder"),
    ],
)
def test_a_summary_that_chose_something_else_is_refused(base, tmp_path, chosen, message):
    run = save_run(tmp_path / "run", full_arrays(base), record_of(base), chosen=chosen)
    with pytest.raises(UserError, match=message):
        open_checkpoint(run, dtype="float32")


@pytest.mark.parametrize("text", ["{}", "[]", '{"checkpoints": {"chosen": null}}', "{"])
def test_a_summary_that_names_nothing_is_refused(full_run, tmp_path, text):
    run = Path(shutil.copytree(full_run, tmp_path / "run"))
    (run / "summary.json").write_text(text)
    with pytest.raises(UserError, match=r"summary\.json"):
        open_checkpoint(run, dtype="float32")


def test_weights_that_the_base_does_not_have_are_named(base, tmp_path):
    arrays = {**full_arrays(base), "params/layers/7/mlp/up/weight": jnp.ones((2, 2))}
    run = save_run(tmp_path / "run", arrays, record_of(base))
    with pytest.raises(UserError, match="layers/7/mlp/up/weight"):
        open_finetuned(run, dtype="float32")


@pytest.mark.parametrize(
    "record", [{}, {"model": 3}, {"model": {"kind": "full"}}, {"model": {"kind": "prefix"}}]
)
def test_a_step_of_something_else_is_refused(base, tmp_path, record):
    run = save_run(tmp_path / "run", full_arrays(base), record)
    with pytest.raises(UserError, match="does not describe a finetuned model"):
        open_finetuned(run, dtype="float32")


def test_an_unknown_kind_is_refused_by_name(base, tmp_path):
    run = save_run(tmp_path / "run", full_arrays(base), record_of(base, kind="prefix"))
    with pytest.raises(UserError, match="kind 'prefix'"):
        open_finetuned(run, dtype="float32")


def test_a_damaged_step_is_not_opened(full_run, tmp_path):
    run = Path(shutil.copytree(full_run, tmp_path / "run"))
    manifest = run / "checkpoints" / "step-00000020" / "manifest.json"
    good = manifest.read_bytes()
    for bad in (b"", good[:-20], b"{}", good.replace(b"prefix_lm", b"causal___")):
        manifest.write_bytes(bad)
        for folder in (run, manifest.parent):
            with pytest.raises(UserError, match=r"manifest\.json"):
                open_checkpoint(folder, dtype="float32")
    manifest.write_bytes(good)
    data = max((run / "checkpoints").rglob("d/*"), key=lambda path: path.stat().st_size)
    raw = bytearray(data.read_bytes())
    raw[len(raw) // 2] ^= 16
    data.write_bytes(raw)
    with pytest.raises(UserError, match=f"{data.name}: content differs"):
        open_checkpoint(run, dtype="float32")
