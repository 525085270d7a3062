"""Finetuning runs from folders that may hold anything, and reports of loose runs."""

import json

import pytest

from jaxablate.cli.entry import main
from jaxablate.core.errors import UserError
from jaxablate.reports.finetune import load_finetune
from tests.reports.experiments import RATES, answers_of, made_by, write_experiment
from tests.reports.folders import write_finetune, write_run

LOSSES = {"causal": [2.5, 2.0, 2.2], "prefix_lm": [2.9, 2.3, 2.3]}


@pytest.fixture
def folder(tmp_path):
    return write_finetune(tmp_path / "sft", LOSSES, decode={"causal": (2.2, 2.4)})


def edit(path, change):
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def append(folder, **entry):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps(entry) + "\n")


def test_losses_are_told_by_mask_with_the_first_lowest_one_as_best(folder):
    run = load_finetune(folder)
    assert run.masks == ("causal", "prefix_lm")
    assert [one.loss for one in run.measured("causal")] == LOSSES["causal"]
    assert (run.best("causal").step, run.best("prefix_lm").step) == (10, 10)
    assert run.measured("causal")[-1].gap == pytest.approx(0.2)
    assert run.measured("prefix_lm")[-1].gap is None
    assert (run.stopped, run.chosen_step) == ("", "10")


@pytest.mark.parametrize(
    ("one", "slow", "leaked"),
    [
        (2.0, 2.04, False),
        (2.0, 2.2, True),
        (0.01, 0.05, False),
        (0.1, 0.2, True),
        (2.4, 2.0, False),
        (4.0, 4.1, False),
    ],
)
def test_a_gap_is_a_leak_when_it_is_more_than_rounding(tmp_path, one, slow, leaked):
    run = load_finetune(write_finetune(tmp_path / "r", LOSSES, decode={"causal": (one, slow)}))
    assert run.measured("causal")[-1].leaked == leaked


def test_a_gap_without_a_loss_of_the_same_tokens_is_to_the_held_out_loss(tmp_path):
    folder = write_finetune(tmp_path / "r", {"causal": [2.0]})
    append(
        folder, step=5, kind="eval", mask="causal", loss=2.0, targets=1, leaky=False, decode_loss=3
    )
    assert load_finetune(folder).measured("causal")[-1].gap == pytest.approx(1.0)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "NaN"])
def test_a_loss_that_is_not_finite_is_a_gap_and_never_the_best(folder, value):
    append(folder, step=30, kind="eval", mask="causal", loss=value, targets=5, leaky=False)
    append(folder, step=30, kind="train", loss=value)
    run = load_finetune(folder)
    assert run.measured("causal")[-1].loss is None
    assert run.best("causal").loss == 2.0
    assert run.train[-1] == (30, None)
    assert main(["report", str(folder)]) == 0


def test_a_run_that_is_not_done_has_no_summary(tmp_path):
    run = load_finetune(write_finetune(tmp_path / "r", LOSSES, status="interrupted"))
    assert (dict(run.summary), run.stopped, run.evaluations) == ({}, "", ())


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("steps_done", "20", "steps_done must be of type int"),
        ("stopped", 1, "stopped must be of type bool"),
        ("alarms", [{"step": 1}], r"alarms\[0\] has no 'rule'"),
        ("parameters", [], "parameters must be a table"),
        ("mask", None, "mask must be of type str"),
    ],
)
def test_a_summary_of_another_kind_is_refused_by_name(folder, key, value, told):
    edit(folder / "summary.json", lambda table: table.update({key: value}))
    with pytest.raises(UserError, match=told):
        load_finetune(folder)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"kind": "eval"}', "has no 'step'"),
        ('{"step": 1, "kind": "eval", "mask": 3, "targets": 1, "leaky": true}', "mask must be"),
        ('{"step": 1, "kind": "train", "loss": []}', "loss must be of type float"),
        ("[1]", "must be a table"),
        ('{"step": ', "a line is not JSON"),
    ],
)
def test_a_log_of_another_kind_is_refused_with_its_line(folder, line, told):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=told):
        load_finetune(folder)


def test_a_folder_without_a_finetuning_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        load_finetune(tmp_path / "nowhere")
    folder = write_run(tmp_path / "r", {"causal": {"a": [True] * 9}})
    with pytest.raises(UserError, match="holds a run of 'evaluate', wanted 'finetune'"):
        load_finetune(folder)
    folder = write_finetune(tmp_path / "f", LOSSES)
    (folder / "summary.json").unlink()
    with pytest.raises(UserError, match=r"summary.json: no such file"):
        load_finetune(folder)


@pytest.fixture
def loose(tmp_path):
    """A base's evaluation, a stopped finetuning run, and the evaluation of what it made."""
    tuned = write_finetune(tmp_path / "tuned", LOSSES, stopped="plateau")
    masks = ("causal", "prefix_lm")
    answers = {
        name: {mask: answers_of(RATES[name][mask]) for mask in masks}
        for name in ("base", "sft_prefix")
    }
    base = write_run(tmp_path / "base", answers["base"])
    scored = write_run(
        tmp_path / "scored", answers["sft_prefix"], source=made_by(tuned, stopped="plateau")
    )
    return {"base": str(base), "tuned": str(tuned), "scored": str(scored)}


def test_finetuning_runs_among_loose_runs_make_the_matrix(loose, tmp_path, capsys):
    out = str(tmp_path / "page.html")
    assert main(["report", *loose.values(), "--compare", "--out", out]) == 0
    text = (tmp_path / "page.md").read_text()
    assert "| base | 0.900 (" in text
    assert "| tuned **STOPPED** | 0.880 (" in text
    assert "STOPPED: tuned ended after 20 of 40 steps by the rule plateau" in text
    assert text.startswith("# model finetuned under attention masks\n")
    assert "Held-out loss" in text


def test_an_evaluation_whose_finetuning_run_is_missing_is_named(loose, tmp_path, capsys):
    other = str(write_finetune(tmp_path / "other", LOSSES))
    words = ["report", loose["base"], loose["scored"], other, "--compare"]
    assert main([*words, "--out", str(tmp_path / "x")]) == 2
    told = capsys.readouterr().err
    assert "run scored scored what training run tuned made; give that folder too" in told


def test_without_its_finetuning_run_a_stopped_model_is_still_marked(loose, tmp_path):
    words = ["report", loose["base"], loose["scored"], "--compare", "--out", str(tmp_path / "x")]
    assert main(words) == 0
    for line in (tmp_path / "x.md").read_text().split("## How")[0].splitlines():
        if not line.startswith("|"):
            continue
        assert ("scored:" in line) <= ("STOPPED" in line), line


def test_a_finetuning_run_alone_is_reported_as_training(loose, capsys):
    assert main(["report", loose["tuned"]]) == 0
    assert main(["report", loose["tuned"], loose["tuned"], "--out", loose["tuned"]]) == 2
    assert "give each of them once" in capsys.readouterr().err


def test_an_experiment_is_reported_alone(tmp_path, capsys):
    root = write_experiment(tmp_path / "e", extras=False)
    assert main(["report", str(root), "--title", "My title"]) == 0
    assert capsys.readouterr().out == f"{root}/report.html\n{root}/report.md\n"
    assert (root / "report.md").read_text().startswith("# My title\n")
    assert main(["report", str(root), "--compare"]) == 2
    assert "an experiment is reported alone" in capsys.readouterr().err
    assert main(["report", str(root), "--out", str(tmp_path / "a" / "b.md")]) == 0
    assert (tmp_path / "a" / "b.html").exists()
