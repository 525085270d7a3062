"""jaxablate finetune: flags become settings, endings become exit codes, the summary is shown."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from jaxablate.cli import main
from jaxablate.core.files import read_json
from jaxablate.experiments.tiny import write_tiny_model

CONFIG = """
mask: prefix_lm
data: {folder: samples, name: instructions, max_length: 64, eval_records: 4}
steps: 4
rows: 2
log_every: 2
schedule: {peak: 1e-3}
step: {compute_dtype: float32}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    write_tiny_model(folder / "model", seed=0)
    (folder / "sft.yaml").write_text(CONFIG + f"checkpoint: {folder / 'model'}\n")
    return folder


def printed(place, capsys, *words):
    assert main(["finetune", str(place / "sft.yaml"), *words, "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (["--checkpoint", "elsewhere"], "checkpoint", "elsewhere"),
        (["--mask", "causal"], "mask", "causal"),
        (["--steps", "7"], "steps", 7),
        (["--rows", "8"], "rows", 8),
        (["--seed", "3"], "seed", 3),
        (["--mesh", "fsdp=2"], "mesh", "fsdp=2"),
        (["--out", "there"], "out", "there"),
        (["--allow-leaky"], "allow_leaky", True),
        (["--set", "lora={rank: 2, alpha: 4}"], "lora", {
            "rank": 2, "alpha": 4.0, "targets": ["all-linear"], "first_layers": None,
            "dropout": 0.0,
        }),
    ],
)  # fmt: skip
def test_a_flag_sets_its_setting_and_no_other(place, capsys, words, path, value):
    before, after = printed(place, capsys), printed(place, capsys, *words)
    assert after[path] == value != before[path]
    assert {key: v for key, v in after.items() if key != path} == {
        key: v for key, v in before.items() if key != path
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--setps", "3"], "did you mean '--steps'"),
        (["--set", "schedule.paek=1"], "did you mean 'peak'"),
        (["--steps", "many"], "setting 'steps' must be an integer, got 'many'"),
        (["--coordinator", "localhost:1"], "are given together"),
        (["--coordinator", "x:1", "--processes", "2", "--process", "2"], "from 0 to 1, got 2"),
        (["--mask", "full_bidirectional"], "can see its own target"),
    ],
)
def test_wrong_words_end_with_one_sentence_and_code_2(place, tmp_path, capsys, words, sentence):
    out = tmp_path / "out"
    assert main(["finetune", str(place / "sft.yaml"), "--out", str(out), *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert not out.exists()


def test_it_trains_says_how_it_ended_and_does_nothing_a_second_time(place, tmp_path, capsys):
    words = ["finetune", str(place / "sft.yaml"), "--out", str(tmp_path / "run")]
    assert main(words) == 0
    first = capsys.readouterr()
    loss = read_json(tmp_path / "run" / "summary.json")["final"]["evals"]["prefix_lm"]["loss"]
    assert f"{loss:.4f}" in first.out
    assert "4 of 4 steps, trained under prefix_lm" in first.out
    assert "step 2/4" in first.err
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert [line.partition(" ")[2] for line in log] == first.err.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}Z ", line) for line in log)
    assert main(words) == 0
    assert capsys.readouterr() == (first.out, "")


def test_a_loss_that_is_no_number_is_a_failure(place, tmp_path, capsys):
    broken = ["schedule={kind: constant, peak: 1e30}", "step.clip_norm=0"]
    sets = [word for text in broken for word in ("--set", text)]
    assert main(["finetune", str(place / "sft.yaml"), "--out", str(tmp_path / "nan"), *sets]) == 1
    assert "stopped early (non_finite): training loss is nan at step" in capsys.readouterr().out


def test_sigterm_saves_and_ends_with_code_75(place, tmp_path):
    out = tmp_path / "run"
    words = ["finetune", str(place / "sft.yaml"), "--out", str(out), "--steps", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxablate", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    while process.poll() is None and not (out / "timing.jsonl").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1].strip().splitlines()
    assert process.returncode == 75, said
    assert "it is saved; run the same command again to go on" in said[-1]
    assert read_json(out / "manifest.json")["status"] == "interrupted"
    assert list((out / "checkpoints").glob("step-*"))
