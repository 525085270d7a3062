"""kind: pretrain. A stage that trains from nothing, and what works on its model."""

import json

import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.settings import read_settings
from jaxablate.experiments.plan import make_plan
from jaxablate.experiments.runner import check, run_experiment

CONFIG = """
name: own
checkpoint: mine
evaluate: {{tasks: [recall], limit: 4, bootstrap_samples: 100}}
stages:
  mine:
    kind: pretrain
    shape: {{layers: 1, hidden: 32, mlp: 64, heads: 2, kv_heads: 1, head_dim: 16, context: 64}}
    tokenizer: {{vocab_size: 300, train_megabytes: 1}}
    data: {{max_length: 32, held_out_share: 0.1, sources: [{{kind: files, name: text, paths: ["{text}"]}}]}}
    steps: 2
    rows: 2
    step: {{compute_dtype: float32}}
  scores: {{kind: evaluate, masks: [causal]}}
"""  # noqa: E501


def planned(folder, text, **changes):
    file = folder / "own.yaml"
    written = CONFIG.format(text=text)
    for old, new in changes.items():
        written = written.replace(f"{old}: ", new, 1)
    file.write_text(written)
    return make_plan(read_settings([file]), folder / "own")


def test_a_stage_trains_from_nothing_and_the_next_scores_it(tmp_path):
    rows = [{"text": f"The cat number {n} sat by the window and saw the rain."} for n in range(60)]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plan = planned(tmp_path, tmp_path / "*.jsonl")
    outcome = run_experiment(plan)
    entries = json.loads((plan.root / "experiment.json").read_text())["stages"]
    assert [entry["kind"] for entry in entries] == ["pretrain", "evaluate"]
    manifest = json.loads((plan.root / entries[0]["run"] / "manifest.json").read_text())
    assert manifest["kind"] == "pretrain"
    assert manifest["status"] == "done"
    assert "recall" in outcome.text.read_text()


def test_text_that_is_not_there_is_told_before_anything_runs(tmp_path):
    plan = planned(tmp_path, tmp_path / "none*.jsonl")
    with pytest.raises(UserError, match="no file matches"):
        check(plan, plan.jobs())
    assert not plan.root.exists()


def test_a_wrong_key_is_named_with_the_stage(tmp_path):
    with pytest.raises(UserError, match="did you mean 'shape'"):
        planned(tmp_path, "x", shape="shap: ")
