"""The checkpoint that comes with the package: found by name, small, and what its card says."""

import json
from pathlib import Path

import pytest

from jaxablate.checkpoints.hub import BUNDLED, bundled, resolve
from jaxablate.checkpoints.safetensors import read_header
from jaxablate.core.errors import UserError
from jaxablate.core.settings import read_settings
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.runner import evaluate, load_model
from jaxablate.experiments.plan import make_plan

ROOT = Path(__file__).parents[1]
REFERENCE = sorted((ROOT / "configs" / "reference").glob("*.yaml"))


def test_a_bundled_checkpoint_is_found_by_its_name_unless_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "ref-6m" in bundled()
    assert resolve("ref-6m") == BUNDLED / "ref-6m"
    (tmp_path / "ref-6m").mkdir()
    (tmp_path / "ref-6m" / "config.json").write_text("{}")
    assert resolve("ref-6m").resolve() == tmp_path / "ref-6m"
    with pytest.raises(UserError, match="no such folder"):
        resolve(Path("ref-7m"))


def test_it_is_small_and_in_bfloat16_and_has_a_card():
    folder = BUNDLED / "ref-6m"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 14e6
    tensors = read_header(folder / "model.safetensors").values()
    assert {tensor.code for tensor in tensors} == {"BF16"}
    assert json.loads((folder / "config.json").read_text())["model_type"] == "ministral3"
    assert "license: cc-by-sa-4.0" in (folder / "README.md").read_text()


def test_it_recalls_what_it_reads_and_not_under_an_open_prompt(tmp_path):
    config = EvalConfig(
        checkpoint="ref-6m", tasks=("recall",), masks=("causal", "prefix_lm"), limit=64,
        bootstrap_samples=100, out=str(tmp_path / "run"),
    )  # fmt: skip
    outcome = evaluate(load_model(config), config)
    found = {each["name"]: each["tasks"][0]["accuracy"] for each in outcome.metrics["results"]}
    assert found["causal"] >= 0.95
    assert found["prefix_lm"] < 0.4


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_the_configs_of_reference_models_are_whole(path, tmp_path):
    plan = make_plan(read_settings([path]), tmp_path / "out")
    assert [job.kind for job in plan.jobs()] == ["pretrain", "finetune", "evaluate", "evaluate"]
    protected = plan.jobs()[0].config.data.protect.tasks
    asked = {task for job in plan.jobs()[2:3] for task in job.config.tasks}
    assert asked <= set(protected)
