"""A checkpoint that an experiment converts for itself, and a probe of it."""

import json

import pytest

from jaxablate.checkpoints.store import is_stored
from jaxablate.core.errors import UserError
from jaxablate.experiments.plan import state_of
from jaxablate.experiments.runner import run_experiment
from jaxablate.experiments.tiny import write_tiny_model
from jaxablate.runs.folder import read_manifest
from tests.experiments.small import plan

TEXT = """
name: measured
checkpoint: model
stages:
  model: {kind: convert, source: SOURCE}
  leaks: {kind: probe, masks: [causal, full_bidirectional], rows: 1, prompt: 4, response: 2}
  stage1: {kind: evaluate, masks: [causal], tasks: [piqa], data: samples}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "Tiny Model"
    write_tiny_model(folder, seed=0)
    return folder


def made(root, source, *overrides):
    return plan(root, *overrides, text=TEXT.replace("SOURCE", json.dumps(str(source))))


def test_the_model_is_converted_then_probed_and_both_are_done_once(source, tmp_path, monkeypatch):
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hf_secret_that_must_not_travel")
    study = made(tmp_path / "x", source)
    found = run_experiment(study, stages=["leaks"])
    assert found.page is None
    model, leaks, stage1 = study.jobs()
    assert is_stored(model.path / "tiny-model")
    assert (leaks.config.checkpoint, stage1.config.checkpoint) == (model.output.path,) * 2
    assert read_manifest(model.path)["source"]["path"] == str(source)
    causal, full = json.loads((leaks.path / "metrics.json").read_text())["results"]
    assert (causal["name"], causal["leaks"], causal["future_change"]) == ("causal", False, 0.0)
    assert (full["name"], full["leaks"]) == ("full_bidirectional", True)
    assert (full["rows"], full["prompt_length"], full["response_length"]) == (1, 4, 2)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json") if p.parent != study.root}
    run_experiment(made(tmp_path / "x", source), stages=["leaks"])
    assert before == {p: p.stat().st_mtime_ns for p in before}
    files = [path for path in study.root.rglob("*") if path.is_file()]
    assert not any(b"must_not_travel" in path.read_bytes() for path in files)


def test_another_source_is_another_run_and_so_is_what_works_on_it(source, tmp_path):
    first = made(tmp_path, source).jobs()
    other = made(tmp_path, source, "stages.model.dtype=bfloat16").jobs()
    assert all(a.run != b.run for a, b in zip(first, other, strict=True))
    assert {state_of(job).word for job in first} == {"new"}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stages.model.source=./nowhere", "nowhere"),
        ("stages.model.sauce=x", "did you mean 'source'"),
        ("stages.model.model=stage1", "converts its source, not a model"),
        ("stages.leaks.masks=[]", "at least one mask"),
        ("stages.leaks.prompt=1", "prompt must be >= 2"),
        ("stages.leaks.masks=[casual]", "casual"),
        ("stages.leaks.limit=3", "limit"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(source, tmp_path, override, told):
    with pytest.raises(UserError, match=told):
        run_experiment(made(tmp_path / "x", source, override), stages=["leaks"])
    assert not (tmp_path / "x").exists()
