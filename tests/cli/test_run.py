"""jaxablate run and jaxablate sweep: the plan, what runs, what is said, and the exit codes."""

import json
from pathlib import Path

import pytest
import yaml

from jaxablate.cli import main
from tests.experiments.small import TEXT, work

__all__ = ["work"]
CONFIGS = Path(__file__).parents[2] / "configs" / "ablation"

SFT = """
checkpoint: {checkpoint}
steps: 4
rows: 2
mask: prefix_lm
data: {{folder: samples, name: instructions}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxablate.cli.run.show_results", lambda root: print(f"results of {root}"))
    (tmp_path / "small.yaml").write_text(TEXT)
    return tmp_path


def states(shown):
    """Stage to state, from the printed table."""
    rows = [line.split() for line in shown.splitlines()]
    words = {"new", "done", "changed", "resume"}
    return {row[0]: row[-1] for row in rows if row and row[-1] in words}


def test_the_plan_is_shown_then_run_and_results_and_report_are_named(here, work, capsys):
    assert main(["run", "small.yaml"]) == 0
    out, err = capsys.readouterr()
    assert set(states(out).values()) == {"new"}
    assert (
        out.index("stage1") < out.index("results of runs/small") < out.index("report: runs/small")
    )
    assert "jaxablate: 2/7 stage1: Base (stage1-" in err
    assert (here / "runs" / "small" / "experiment.json").exists()
    assert main(["run", "small.yaml"]) == 0
    out, err = capsys.readouterr()
    assert set(states(out).values()) == {"done"}
    assert err.count("done before") == 7


def test_a_loss_that_is_no_number_fails_the_study_but_not_a_sweep(here, work, capsys):
    assert main(["run", "small.yaml"]) == 0
    root = here / "runs" / "small"

    def break_off(pattern):
        (path,) = root.glob(f"{pattern}/summary.json")
        summary = json.loads(path.read_text())
        path.write_text(json.dumps({**summary, "stop_reason": "non_finite", "sentence": "is nan"}))

    break_off("rates-1e-05-*")
    assert main(["run", "small.yaml"]) == 0
    break_off("stage3b-*")
    capsys.readouterr()
    assert main(["run", "small.yaml"]) == 1
    assert "jaxablate: stage3b: is nan" in capsys.readouterr().err


def test_list_shows_states_and_changes_and_runs_nothing(here, work, capsys):
    assert main(["run", "small.yaml", "--list"]) == 0
    assert not (here / "runs").exists()
    main(["run", "small.yaml"])
    work.done.clear()
    capsys.readouterr()
    assert main(["run", "small.yaml", "--list", "--set", "stages.stage4.limit=2"]) == 0
    out = capsys.readouterr().out
    assert states(out) == {**dict.fromkeys(states(out), "done"), "stage4": "changed"}
    assert "which is kept: limit: 4 -> 2" in out
    assert work.done == []


def test_a_broken_stage_is_to_resume(here, work, capsys):
    work.fail_in = "stage4"
    with pytest.raises(RuntimeError):
        main(["run", "small.yaml"])
    capsys.readouterr()
    assert main(["run", "small.yaml", "--list"]) == 0
    out = capsys.readouterr().out
    assert (states(out)["stage3b"], states(out)["stage4"], states(out)["dose"]) == (
        "done",
        "resume",
        "new",
    )


def test_stages_out_and_set_have_their_effect(here, work, capsys):
    words = ["run", "small.yaml", "--stages", "stage1, stage4", "--out", "elsewhere"]
    assert main([*words, "--set", "evaluate.limit=3"]) == 0
    assert list(states(capsys.readouterr().out)) == ["tiny_model", "stage1", "stage3b", "stage4"]
    assert work.done == ["stage1", "stage3b", "stage4"]
    (run,) = Path("elsewhere").glob("stage1-*")
    assert json.loads((run / "manifest.json").read_text())["config"]["limit"] == 3


def test_the_printed_config_means_the_same(here, work, capsys):
    assert main(["run", "small.yaml", "--print-config"]) == 0
    (here / "full.yaml").write_text(capsys.readouterr().out)
    assert yaml.safe_load((here / "full.yaml").read_text())["stages"]["stage4"]["limit"] == 4
    main(["run", "small.yaml"])
    capsys.readouterr()
    assert main(["run", "full.yaml", "--list"]) == 0
    assert set(states(capsys.readouterr().out).values()) == {"done"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "CONFIG"),
        (["run", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "small.yaml", "--stages", "stage5"], "did you mean 'stage4'"),
        (["run", "small.yaml", "--set", "stages.stage3b.mask=full_bidirectional"], "leaks"),
        (["run", "small.yaml", "--set", "finetune.step=3"], "'step' must be a table"),
        (["run", "small.yaml", "--set", "evaluate.tasks=[piqqa]"], "did you mean 'piqa'"),
        (["sweep", "sft.yaml"], "--over"),
        (["sweep", "sft.yaml", "--over", "schedule.peak"], "KEY=VALUE,VALUE"),
        (["sweep", "sft.yaml", "--over", "schedule.peek=1"], "did you mean"),
        (["sweep", "sft.yaml", "--over", "seed=0,0"], "value 0 twice"),
        (["sweep", "sft.yaml", "--over", "seed=[1"], "not valid YAML"),
        (["sweep", "small.yaml", "--over", "seed=0"], "unknown setting of 'finetune'"),
    ],
)
def test_wrong_words_end_with_two_and_touch_nothing(words, told, here, work, capsys):
    (here / "sft.yaml").write_text(SFT.format(checkpoint="some/model"))
    before = sorted(here.rglob("*"))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_a_sweep_is_one_run_a_value_and_one_table(here, work, capsys):
    (here / "sft.yaml").write_text(SFT.format(checkpoint="some/model"))
    words = ["sweep", "sft.yaml", "--over", "schedule.peak=1e-5,2e-5", "--set", "steps=3"]
    assert main([*words, "--list"]) == 0
    assert set(states(capsys.readouterr().out)) == {"sweep-1e-05", "sweep-2e-05"}
    assert work.done == []
    assert main(words) == 0
    out = capsys.readouterr().out
    assert work.done == ["sweep-1e-05", "sweep-2e-05"]
    assert out.count("3/3") == 2
    assert "1.5000" in out
    assert "1.2500 (step 2)" in out
    assert "report: runs/sweep-sft/report.html" in out
    assert main(words) == 0
    assert len(work.done) == 2


def test_every_shipped_experiment_has_all_stages_and_is_valid(capsys, tmp_path):
    files = sorted(set(CONFIGS.glob("*.yaml")) - set(CONFIGS.glob("ref_28m*.yaml")))
    assert {file.stem for file in files} >= {"ministral3_3b", "llama31_8b", "qwen25_7b", "tiny"}
    for file in files:
        assert main(["run", str(file), "--list", "--out", str(tmp_path / file.stem)]) == 0
        shown = states(capsys.readouterr().out)
        wanted = {"stage1", "stage2", "stage3a", "stage3b", "stage4a", "stage4b"}
        wanted |= {"stage4a_causal", "stage4b_causal", "stage5", "stage5_causal", "leak"}
        assert wanted <= set(shown), file
        text = yaml.safe_load(file.read_text())
        kinds = {stage["kind"] for stage in text["stages"].values()}
        assert {"evaluate", "finetune", "sweep"} <= kinds
        assert text["stages"]["leak"]["stop"]["leak_action"] == "note"
        assert any("dose" in stage for stage in text["stages"].values())


def test_the_reference_study_is_valid_with_any_data_and_lists_its_seeds(capsys, tmp_path):
    settings = ("evaluate.data=benchmarks", "finetune.data.folder=samples")
    settings += ("finetune.data.name=instructions",)
    sets = [word for setting in settings for word in ("--set", setting)]
    file = str(CONFIGS / "ref_28m.yaml")
    assert main(["run", file, "--list", "--out", str(tmp_path / "x"), *sets]) == 0
    shown = states(capsys.readouterr().out)
    assert {"base_scored", "stage3b_s0", "stage3b_s2", "stage3b_scored_s1"} <= set(shown)
    assert len(shown) == 83
    assert set(shown.values()) == {"new"}


def test_the_study_of_instruments_is_valid_and_needs_no_data(capsys, tmp_path):
    file = str(CONFIGS / "ref_28m_instruments.yaml")
    out = ["--out", str(tmp_path / "x"), "--set", f"checkpoint={tmp_path}"]
    assert main(["run", file, "--list", *out]) == 0
    shown = states(capsys.readouterr().out)
    assert {"recall_prefix-10_s0", "clubs_causal_scored-3_s2", "slots_8_scored_s1"} <= set(shown)
    assert len(shown) == 170
