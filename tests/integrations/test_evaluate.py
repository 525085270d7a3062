"""The whole evaluation on a real decoder equals the harness, and itself in any layout."""

import json

import numpy as np
import pytest

from jaxablate.engine.score import Scorer
from jaxablate.evaluation.config import SAMPLES, EvalConfig
from jaxablate.evaluation.progress import Silent
from jaxablate.evaluation.runner import evaluate, read_records
from jaxablate.language_model import load
from jaxablate.masks.leak import LeakError
from jaxablate.runs.folder import read_manifest
from tests.evaluation.harness import harness_gold, harness_requests, harness_task, quiet
from tests.integrations.checkpoint import save_checkpoint

pytest.importorskip("torch")
pytest.importorskip("transformers")

BENCHMARKS = ("arc_challenge", "arc_easy", "hellaswag", "piqa", "winogrande")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("qwen3"), family="qwen3", max_length=96)


@pytest.fixture(scope="module")
def lm(folder):
    return load(folder)


def config(folder, out, **settings):
    defaults = {
        "checkpoint": str(folder),
        "tasks": ("piqa", "winogrande"),
        "masks": ("prefix_lm",),
        "data": "samples",
        "bootstrap_samples": 100,
        "limit": 8,
    }
    return EvalConfig(**{**defaults, **settings}, out=str(out))


def run(lm, settings):
    return evaluate(lm, settings, progress=Silent())


def records_of(outcome):
    return {path.name: read_records(path) for path in (outcome.path / "records").iterdir()}


def sample_rows(name):
    path = SAMPLES / name / "validation.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_standard_equals_the_harness_item_by_item(folder, lm, tmp_path):
    pytest.importorskip("lm_eval")
    settings = {"tasks": BENCHMARKS, "masks": ("causal",), "limit": 6}
    outcome = run(lm, config(folder, tmp_path / "run", **settings))
    with quiet():
        from lm_eval.models.huggingface import HFLM

        theirs = HFLM(
            pretrained=str(folder), device="cpu", dtype="float32", batch_size=8, logits_cache=False
        )
    for found in outcome.metrics["results"][0]["tasks"]:
        task = harness_task(found["task"], sample_rows(found["task"])[:6], tmp_path)
        records = read_records(outcome.path / found["records"])
        own = check_task(task, theirs, records)
        assert found["measures"]["acc"]["value"] == pytest.approx(np.mean(own["acc"]))
        if "acc_norm" in own:
            assert found["measures"]["acc_norm"]["value"] == pytest.approx(np.mean(own["acc_norm"]))


def check_task(task, theirs, records):
    """Compare each record with the harness' scores; the harness' own results by metric."""
    requests, results = harness_requests(task), {}
    with quiet():
        flat = [Request(*pair) for pairs in requests for pair in pairs]
        scores = iter(theirs.loglikelihood(flat, disable_tqdm=True))
    for doc, pairs, record in zip(task.validation_docs(), requests, records, strict=True):
        wanted = [next(scores) for _ in pairs]
        assert record["logprobs"] == pytest.approx([score for score, _ in wanted], abs=1e-4)
        assert record["is_greedy"] == [greedy for _, greedy in wanted]
        assert record["label"] == harness_gold(task, doc)
        for name, value in task.process_results(doc, wanted).items():
            results.setdefault(name, []).append(value)
    return results


class Request:
    def __init__(self, *args):
        self.args = args


@pytest.mark.parametrize(
    "layout",
    [{"rows_per_batch": 3}, {"row_length": 128}, {"shared": "never"}],
    ids=["batch", "row", "apart"],
)
def test_scores_do_not_depend_on_how_rows_are_laid_out(folder, lm, tmp_path, layout):
    usual = records_of(run(lm, config(folder, tmp_path / "usual")))
    other = records_of(run(lm, config(folder, tmp_path / "other", **layout)))
    for name, records in usual.items():
        for one, two in zip(records, other[name], strict=True):
            assert one["logprobs"] == pytest.approx(two["logprobs"], abs=1e-4)
            rest = [{**record, "logprobs": None} for record in (one, two)]
            assert rest[0] == rest[1]


def test_an_interrupted_run_continues_to_the_same_bytes(folder, lm, tmp_path, monkeypatch):
    layout = {"rows_per_batch": 1, "masks": ("causal", "prefix_lm")}
    whole = run(lm, config(folder, tmp_path / "whole", **layout))
    finish, calls = Scorer._finish, []

    def fail(self, *arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return finish(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "_finish", fail)
        with pytest.raises(KeyboardInterrupt):
            run(lm, config(folder, tmp_path / "cut", **layout))
    assert read_manifest(tmp_path / "cut")["status"] == "interrupted"
    again = run(lm, config(folder, tmp_path / "cut", **layout))
    for path in (whole.path / "metrics.json", *(whole.path / "records").iterdir()):
        assert (again.path / path.relative_to(whole.path)).read_bytes() == path.read_bytes()


def test_a_leaky_mask_writes_nothing_unless_allowed_and_stamps_everything_then(
    folder, lm, tmp_path
):
    settings = {"tasks": ("piqa",), "masks": ("full_bidirectional",), "limit": 4}
    with pytest.raises(LeakError):
        run(lm, config(folder, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()
    outcome = run(lm, config(folder, tmp_path / "run", allow_leaky=True, **settings))
    assert outcome.metrics["results"][0]["leaky"] is True
    assert read_manifest(outcome.path)["leaky"] == ["full_bidirectional"]


def test_the_manifest_says_which_weights_and_kernels(folder, lm, tmp_path):
    outcome = run(lm, config(folder, tmp_path / "run", limit=3))
    manifest = read_manifest(outcome.path)
    assert manifest["weights"] == lm.source["weights"] == outcome.metrics["weights"]
    assert manifest["scorers"]["prefix_lm"]["kernels"]
