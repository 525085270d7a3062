"""What is done is skipped, what was begun goes on, what changed is done anew beside the old."""

import json
import os
import signal

import pytest

from jaxablate.core.errors import Stopped, UserError
from jaxablate.experiments.job import Hooks
from jaxablate.experiments.plan import state_of
from jaxablate.experiments.runner import run_experiment
from jaxablate.runs.lock import FolderLock, LockedError
from tests.experiments.small import plan

ALL = ["tiny_model", "stage1", "stage3b", "stage4", "dose", "rates-1e-05", "rates-2e-05"]


def run(root, *overrides, stages=None):
    """Run the small experiment; what was said."""
    said = []
    run_experiment(plan(root, *overrides), stages=stages, hooks=Hooks(say=said.append))
    return said


def index(root):
    return json.loads((root / "experiment.json").read_text())


def states(root, *overrides):
    return {job.name: state_of(job).word for job in plan(root, *overrides).jobs()}


def test_stages_run_in_order_and_a_second_time_only_the_report_is_written(tmp_path, work):
    root = tmp_path / "x"
    said = run(root)
    assert work.done == ALL[1:]
    assert [line.split(":")[0] for line in said] == [
        f"{i}/7 {name}" for i, name in enumerate(ALL, start=1)
    ]
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    report = (root / "report.md").read_bytes()
    (root / "report.md").unlink()
    again = run(root)
    assert work.done == ALL[1:]
    assert all("done before" in line for line in again)
    assert (root / "report.md").read_bytes() == report
    changed = {p.name for p, raw in before.items() if p.read_bytes() != raw}
    assert changed <= {".lock"}


def test_the_index_names_every_run_relative_to_the_experiment(tmp_path, work):
    run(tmp_path / "x")
    found = index(tmp_path / "x")
    assert (found["format"], found["name"]) == (1, "small")
    assert found["criteria"]["tuned"] == "stage3b"
    stages = {entry["name"]: entry for entry in found["stages"]}
    assert list(stages) == ALL
    assert all(
        (tmp_path / "x" / entry["run"] / "manifest.json").exists() for entry in stages.values()
    )
    stage4 = stages["stage4"]
    assert (stage4["kind"], stage4["model"], stage4["needs"]) == (
        "evaluate",
        "stage3b",
        ["stage3b"],
    )
    assert stages["stage1"]["title"] == "Base"
    assert (stages["stage1"]["model"], stages["tiny_model"]["model"]) == ("base", None)
    assert stages["rates-2e-05"]["sweep"]["value"] == 2e-5
    dose = stages["dose"]["dose"]
    assert dose["counts"] == [0, 1, 2]
    assert dose["masks"][2] == "layers(0-1) & prefix_lm | ~layers(0-1) & causal"
    assert str(tmp_path) not in json.dumps(found)


def test_equal_experiments_in_two_places_leave_equal_indexes(tmp_path, work):
    run(tmp_path / "a")
    run(tmp_path / "b" / "c")
    names = ("experiment.json", "report.md")
    first, second = ([(tmp_path / p / n).read_bytes() for n in names] for p in ("a", "b/c"))
    assert first == second


def test_a_moved_experiment_is_still_done(tmp_path, work):
    run(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "moved")
    assert set(states(tmp_path / "moved").values()) == {"done"}


def test_what_broke_goes_on_and_nothing_is_done_twice(tmp_path, work):
    root = tmp_path / "x"
    work.fail_in = "stage4"
    with pytest.raises(RuntimeError, match="the power went out"):
        run(root)
    assert work.done == ["stage1", "stage3b"]
    # The broken run is not in the index's way, and the finished ones are in it.
    assert [entry["name"] for entry in index(root)["stages"]] == ALL[:3]
    assert states(root)["stage4"] == "to resume"
    work.fail_in = ""
    said = run(root)
    assert work.done == ALL[1:]
    assert any("stage4 goes on" in line for line in said)
    manifest = json.loads((plan(root).jobs()[3].path / "manifest.json").read_text())
    assert [attempt["status"] for attempt in manifest["attempts"]] == ["failed", "done"]
    undisturbed = tmp_path / "y"
    run(undisturbed)
    assert (root / "experiment.json").read_bytes() == (undisturbed / "experiment.json").read_bytes()


def test_a_run_goes_on_under_another_path_to_the_same_folder(tmp_path, work, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work.fail_in = "stage4"
    with pytest.raises(RuntimeError):
        run("x")
    work.fail_in = ""
    run(tmp_path / "x")
    assert work.done == ALL[1:]


def test_a_model_alone_has_no_report(tmp_path, work):
    outcome = run_experiment(plan(tmp_path / "x"), stages=["tiny_model"])
    assert (outcome.page, outcome.text) == (None, None)
    assert [entry["name"] for entry in index(tmp_path / "x")["stages"]] == ["tiny_model"]


def test_a_changed_setting_is_named_and_the_old_run_is_kept(tmp_path, work):
    root = tmp_path / "x"
    run(root)
    old = {job.name: job.path for job in plan(root).jobs()}
    change = "stages.stage4.limit=2"
    assert states(root, change) == {**dict.fromkeys(ALL, "done"), "stage4": "changed"}
    said = run(root, change)
    line = next(line for line in said if "changed since" in line)
    assert (
        f"stage4: settings changed since {old['stage4'].name}, which is kept: limit: 4 -> 2" in line
    )
    assert work.done == [*ALL[1:], "stage4"]
    assert (old["stage4"] / "metrics.json").exists()
    runs = {entry["name"]: entry["run"] for entry in index(root)["stages"]}
    assert runs["stage4"] != old["stage4"].name
    # Back again: the old run still counts.
    run(root)
    assert work.done == [*ALL[1:], "stage4"]
    assert {e["name"]: e["run"] for e in index(root)["stages"]}["stage4"] == old["stage4"].name


def test_a_change_upstream_is_followed_downstream(tmp_path, work):
    root = tmp_path / "x"
    run(root, stages=["stage4"])
    old = {job.name: job.run for job in plan(root).jobs()}
    change = "stages.stage3b.seed=1"
    new = {job.name: job.run for job in plan(root, change).jobs()}
    said = run(root, change, stages=["stage4"])
    assert work.done == ["stage3b", "stage4", "stage3b", "stage4"]
    assert any(f"checkpoint: '{old['stage3b']}' -> '{new['stage3b']}'" in line for line in said)
    assert any("seed: 0 -> 1" in line for line in said)


def test_the_newest_earlier_run_is_compared_with(tmp_path, work, monkeypatch):
    root = tmp_path / "x"
    for number, limit in enumerate((1, 2, 3)):
        monkeypatch.setattr("jaxablate.runs.folder.now", lambda n=number: f"2026-01-0{n + 1}")
        run(root, f"evaluate.limit={limit}", stages=["stage1"])
    found = {job.name: job for job in plan(root).jobs()}
    assert state_of(found["stage1"]).changes == ("limit: 3 -> 4",)


def test_sigterm_in_an_evaluation_stops_and_the_next_run_goes_on(tmp_path, work, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(work, "evaluate", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        patch.setattr("jaxablate.evaluation.runner.evaluate", work.evaluate)
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            run(tmp_path / "x")
    assert signal.getsignal(signal.SIGTERM) is before
    assert work.done == []
    run(tmp_path / "x")
    assert work.done == ALL[1:]


def test_chosen_stages_run_with_what_they_need(tmp_path, work):
    run(tmp_path / "x", stages=["stage4"])
    assert work.done == ["stage3b", "stage4"]
    assert [entry["name"] for entry in index(tmp_path / "x")["stages"]] == [
        "tiny_model",
        "stage3b",
        "stage4",
    ]


def test_a_second_process_is_refused_and_nothing_is_touched(tmp_path, work):
    root = tmp_path / "x"
    root.mkdir()
    lock = FolderLock(root)
    with pytest.raises(LockedError, match="another process writes here"):
        run(root)
    assert [path.name for path in root.iterdir()] == [".lock"]
    lock.release()
    run(root)


REFUSED = {
    "stages.stage3b.mask=full_bidirectional": "stage 'stage3b': mask 'full_bidirectional' leaks",
    "stages.stage4.masks=[full_bidirectional]": "stage 'stage4': mask 'full_bidirectional' leaks",
    "stages.dose.dose.mask=full_bidirectional": "stage 'dose': mask 'full_bidirectional' leaks",
    "stages.stage4.data=nowhere": "stage 'stage4': nowhere: no such data folder",
    "stages.stage4.split=test": "stage 'stage4': .*no 'test' split",
    "stages.stage3b.data.name=nothing": "stage 'stage3b': .*nothing",
    "checkpoint=./nowhere": "'./nowhere': no such folder",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_work_is_refused_before_anything_runs(override, tmp_path, work):
    with pytest.raises(UserError, match=REFUSED[override]):
        run(tmp_path / "x", override)
    assert not (tmp_path / "x").exists()


def test_a_leak_that_is_allowed_runs(tmp_path, work):
    run(
        tmp_path / "x",
        "stages.stage3b.mask=full_bidirectional",
        "stages.stage3b.allow_leaky=true",
        stages=["stage3b"],
    )
    assert work.done == ["stage3b"]


def test_a_dose_of_more_layers_than_there_are_is_refused_early_where_the_model_is_there(
    tmp_path, work
):
    run(tmp_path / "x", stages=["tiny_model"])
    with pytest.raises(UserError, match="stage 'dose': the model has 2 layers, a dose counts 3"):
        run(tmp_path / "x", "stages.dose.dose.counts=[0, 3]")
    assert work.done == []


def test_a_folder_of_something_else_is_left_alone(tmp_path, work):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"not an experiment and not empty \(it has 'thesis.tex'\)"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    run(tmp_path / "x")
    with pytest.raises(UserError, match="holds experiment 'small', wanted 'other'"):
        run(tmp_path / "x", "name=other")


def test_a_kill_in_the_first_write_leaves_a_folder_that_goes_on(tmp_path, work):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".experiment.json.k3j4").write_text("{")
    (tmp_path / "x" / ".lock").write_text("")
    run(tmp_path / "x", stages=["stage1"])
    assert work.done == ["stage1"]


def test_weights_that_change_between_two_runs_are_noticed(tmp_path, work):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    base = f"checkpoint={tmp_path / 'base'}"
    run(tmp_path / "x", base, stages=["stage1"])
    work.weights = "other"
    with pytest.raises(UserError, match=r"weights changed between the runs stage1-.* and stage3b-"):
        run(tmp_path / "x", base)
