"""jaxablate quickstart: an experiment like any other, and what it says at the end."""

import json
from pathlib import Path

import pytest
import yaml

from jaxablate.cli import main, quickstart
from jaxablate.core.settings import read_settings
from jaxablate.experiments.plan import make_plan
from jaxablate.masks.parse import parse
from tests.experiments.small import work
from tests.reports.experiments import write_experiment

__all__ = ["work"]
STAGES = ["model", "stage1", "stage2", "stage3a", "stage3b", "stage4a", "stage4b", "leakage"]


@pytest.fixture
def here(tmp_path, monkeypatch, work):
    """A place where nothing but the steps' work is left out; what was asked of the slow ones."""
    asked = {}

    def convert(source, out, **settings):
        asked["source"] = source
        return {"weights": "w" * 8}

    def measure(lm, mask, **sizes):
        leaks = str(mask) == str(parse("full_bidirectional"))
        losses = {"prompt_change": 0.0, "teacher_forced_loss": 9.0, "decode_loss": 9.0}
        return {"leaks": leaks, "future_change": 2.5 if leaks else 0.0, **losses}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxablate.checkpoints.convert.convert", convert)
    monkeypatch.setattr("jaxablate.probes.leakage.measure", measure)
    monkeypatch.setattr("jaxablate.language_model.load", lambda *_, **__: Lm())
    monkeypatch.setattr(quickstart, "show_results", lambda root: print(f"results of {root}"))
    return asked


class Lm:
    """As much of a model as a probe's stage asks."""

    def __init__(self):
        self.source = {"weights": "w" * 8}


def test_the_plan_is_the_studys_first_four_stages_and_a_probe():
    plan = make_plan(read_settings([quickstart.CONFIG]))
    jobs = {job.name: job for job in plan.jobs()}
    assert list(jobs) == STAGES
    assert str(plan.root) == "runs/quickstart"
    assert jobs["model"].config.source == "ref-6m"
    assert [jobs[name].masks for name in ("stage1", "stage3a", "stage3b")] == [
        "causal", "causal", "prefix_lm",
    ]  # fmt: skip
    assert jobs["stage2"].config.masks == ("prefix_lm", "full_bidirectional")
    for tuned in "ab":
        scored = jobs[f"stage4{tuned}"]
        assert (scored.model, scored.config.masks) == (f"stage3{tuned}", ("causal", "prefix_lm"))
    arms = [jobs[f"stage3{arm}"].settings() for arm in "ab"]
    different = {key for key in arms[0] if arms[0][key] != arms[1][key]}
    assert different == {"mask", "eval_masks"}
    assert jobs["leakage"].model == "base"


def test_the_printed_file_is_the_packages_own_and_run_takes_it(here, capsys, tmp_path):
    assert main(["quickstart", "--print-config"]) == 0
    text = capsys.readouterr().out
    assert text == quickstart.CONFIG.read_text()
    (tmp_path / "my.yaml").write_text(text)
    assert main(["run", "my.yaml", "--list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if row and row[-1] == "new"] == STAGES
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_and_settings_are_put_in_its_place(here, capsys, tmp_path):
    words = ["quickstart", "--checkpoint", "some/Model", "--set", "finetune.steps=3"]
    assert main([*words, "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["stages"]["model"]["source"] == "some/Model"
    assert printed["stages"]["stage3a"]["steps"] == 3
    assert main([*words, "--out", "elsewhere"]) == 0
    assert here["source"] == "some/Model"
    manifest = json.loads(next((tmp_path / "elsewhere").glob("model-*/manifest.json")).read_text())
    assert manifest["provenance"]["source"] == "--checkpoint"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--chekpoint", "x"], "did you mean '--checkpoint'"),
        (["--set", "finetune.stpes=3"], "did you mean 'steps'"),
        (["--checkpoint", "./nowhere"], "nowhere"),
        (["more"], "one argument too many"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(here, capsys, tmp_path, words, told):
    assert main(["quickstart", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.strip().count("\n") <= 1
    assert not (tmp_path / "runs").exists()


def test_steps_are_told_with_their_times_and_the_end_says_what_to_do(here, work, capsys, tmp_path):
    assert main(["quickstart"]) == 0
    out, err = capsys.readouterr()
    steps = [line for line in err.splitlines() if "/8 " in line]
    assert [line.split("/8 ")[1].split(":")[0] for line in steps] == STAGES
    assert all(line.startswith("jaxablate: [0:00:0") for line in steps)
    assert out.startswith("results of runs/quickstart\n")
    assert "full_bidirectional: LEAKY, a logit moved by 2.5" in out
    assert "prefix_lm: clean" in out
    tuned = next(Path("runs/quickstart").glob("stage3b-*"))
    for wanted in (
        "open the report: runs/quickstart/report.html",
        "jaxablate quickstart --print-config > my.yaml",
        "jaxablate run my.yaml",
        f"jaxablate eval {tuned} --tasks",
    ):
        assert wanted in out
    work.done.clear()
    assert main(["quickstart"]) == 0
    assert (work.done, capsys.readouterr().err.count("done before")) == ([], 8)


def test_the_table_has_every_condition_with_interval_and_chance(tmp_path, capsys):
    quickstart.show_results(write_experiment(tmp_path / "x"))
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line for line in lines if "chance" in line and "base causal" in line]
    assert "base prefix_lm" in head
    assert "sft_causal prefix_lm" in head
    assert "sft_prefix prefix_lm" in head
    assert "full" not in head
    (row,) = [line for line in lines if line.strip().startswith("piqa")]
    assert row.split()[1].startswith("0.90")
    assert [cell[:4] for cell in row.split()[1::2]][:4] == ["0.90", "0.60", "0.70", "0.85"]
    assert row.split()[2].startswith("[0.8")
    assert any(line.strip().startswith("all tasks") for line in lines)
