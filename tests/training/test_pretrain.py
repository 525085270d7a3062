"""Pretraining: from text files to a run that is a checkpoint, continued bit for bit."""

import dataclasses
import json

import numpy as np
import pytest

from jaxablate.core.config import build
from jaxablate.core.errors import Stopped, UserError
from jaxablate.core.settings import Settings
from jaxablate.language_model import load
from jaxablate.runs.observer import Observer
from jaxablate.training.pretrain import PretrainConfig, prepare, pretrain

SENTENCES = (
    "The cat sat by the window.",
    "A mask says who may see whom.",
    "Rain fell all day long.",
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    lines = [
        json.dumps({"text": " ".join(SENTENCES[(i + k) % 3] for k in range(4 + i % 5))})
        for i in range(80)
    ]
    (folder / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def config(text, out, **more):
    values = {
        "name": "small",
        "shape": {"layers": 2, "hidden": 32, "mlp": 64, "heads": 2, "kv_heads": 1, "head_dim": 16,
                  "context": 64},
        "tokenizer": {"vocab_size": 320, "train_megabytes": 1},
        "data": {
            "sources": [{"kind": "files", "name": "notes", "paths": [str(text / "*.jsonl")]}],
            "max_length": 64,
            "held_out_share": 0.1,
        },
        "steps": 6,
        "rows": 4,
        "schedule": {"peak": 1e-2, "warmup_steps": 2},
        "step": {"compute_dtype": "float32"},
        "log_every": 2,
        "eval_every": 3,
        "use": "last",
        "save": {"every_steps": 2},
        "prepared": str(text / "prepared"),
        "out": str(out),
        **more,
    }  # fmt: skip
    return build(PretrainConfig, Settings(values, {}))


class StopAt(Observer):
    """Asks for an end, as Ctrl-C does, at a line of metrics."""

    def __init__(self, step: int):
        self.step = step

    def on_metrics(self, entry, timing):
        if entry["step"] >= self.step:
            raise Stopped("asked to")


def test_text_becomes_a_run_that_is_a_checkpoint_with_its_tokenizer(text, tmp_path):
    wanted = config(text, tmp_path / "run")
    outcome = pretrain(wanted)
    summary = outcome.summary
    assert summary["steps_done"] == 6
    assert summary["parameters"]["frozen"] == 0
    evals = summary["final"]["evals"]["causal"]
    assert evals["loss"] < np.log(320), "it learned more than that there are 320 tokens"
    lm = load(outcome.path)
    assert lm.tokenizer.decode(lm.tokenizer.encode("The cat sat", add_bos=False)) == "The cat sat"
    base = load(wanted.untrained)
    assert base.config == lm.config
    weight = "embedding"
    assert not np.array_equal(*(np.asarray(m.params[weight]["weight"][...]) for m in (lm, base)))
    manifest = json.loads((outcome.path / "manifest.json").read_text())
    assert manifest["kind"] == "pretrain"
    # A finished run is only read.
    assert pretrain(wanted).summary == summary


def test_a_run_that_was_stopped_goes_on_bit_for_bit(text, tmp_path):
    whole = pretrain(config(text, tmp_path / "whole"))
    with pytest.raises(Stopped):
        pretrain(config(text, tmp_path / "parts"), observers=[StopAt(4)])
    parts = pretrain(config(text, tmp_path / "parts"))
    for name in ("metrics.jsonl", "examples.json"):
        assert (whole.path / name).read_bytes() == (parts.path / name).read_bytes()
    assert load(whole.path).source["weights"] == load(parts.path).source["weights"]


def test_preparing_twice_does_nothing_and_other_text_has_another_folder(text, tmp_path):
    wanted = config(text, tmp_path / "run")
    prepare(wanted)
    files = {p: p.stat().st_mtime_ns for p in wanted.folder.rglob("*") if p.is_file()}
    prepare(wanted)
    assert files == {p: p.stat().st_mtime_ns for p in wanted.folder.rglob("*") if p.is_file()}
    free = dataclasses.replace(wanted, prepared="")
    other = dataclasses.replace(free, data=dataclasses.replace(free.data, seed=1))
    assert free.folder != other.folder
    assert free.untrained != dataclasses.replace(free, seed=1).untrained


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": {"rank": 2, "alpha": 4}}, "trains all weights"),
        ({"frozen": ["embedding/*"]}, "trains all weights"),
        ({"shape": {"context": 16}}, "shape.context"),
        ({"shape": {"family": "qwen"}}, "qwen"),
        ({"shape": {"layers": 0}}, "shape.layers"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    text, tmp_path, changes, words
):
    with pytest.raises(UserError, match=words):
        config(text, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
