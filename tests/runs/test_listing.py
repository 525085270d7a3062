"""Runs as they look from outside: their state, whatever happened to them, without touching them."""

import json
import os
import subprocess
import sys
import time

import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json, write_json
from jaxablate.runs import listing
from jaxablate.runs.folder import RunFolder
from jaxablate.runs.listing import NewLines, has_owner, list_runs, newest_run, run_status, view
from jaxablate.runs.lock import owner_facts
from jaxablate.runs.metrics import MetricsLog

HELD = []


@pytest.fixture(autouse=True)
def _locks_are_let_go():
    yield
    while HELD:
        HELD.pop()._lock.release()


def opened(root, name, kind="finetune", config=None):
    """A run of this process."""
    HELD.append(RunFolder.open(root, kind=kind, slug="x", config=config or {}, name=name))
    return HELD[-1]


def train(step, loss=2.0):
    return {"step": step, "kind": "train", "loss": loss}


def finetune(root, name, *, steps=30, lines=(), end=None, reason="finished"):
    """A run as training leaves it; `end` None leaves it running."""
    folder = opened(root, name, config={"steps": steps})
    with MetricsLog(folder.path / "metrics.jsonl") as log:
        for line in lines:
            log.append(line)
    if end == "done":
        done = lines[-1]["step"]
        stopped = reason != "finished"
        summary = {"stop_reason": reason, "stopped": stopped, "steps_done": done, "sentence": "s"}
        write_json(folder.path / "summary.json", summary)
    if end:
        folder.finish(end)
    return folder


def evaluation(root, name, *, end=None, num_files=0):
    config = {"masks": ["causal", "prefix_lm"], "tasks": ["piqa", "arc_easy", "hellaswag"]}
    folder = opened(root, name, "evaluate", config)
    for number in range(num_files):
        (folder.records() / f"{number}.jsonl").touch()
    if end == "done":
        result = {"name": "causal", "macro": {"primary": {"value": 0.5125}}}
        write_json(folder.path / "metrics.json", {"results": [result]})
        folder.finish(end)
    return folder


def dead(folder):
    """The lock names a process that is no more."""
    path = folder.path / ".lock"
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": int(done.stdout)}))


def created(folder, when):
    manifest = read_json(folder.path / "manifest.json")
    write_json(folder.path / "manifest.json", {**manifest, "created": when})


def test_a_running_finetuning_shows_its_newest_step_and_loss(tmp_path):
    evaluated = {"step": 25, "kind": "eval", "mask": "causal", "loss": 9.0}
    folder = finetune(tmp_path, "a", lines=[train(10), train(20, 1.5), evaluated])
    run = view(folder.path)
    assert (run.id, run.kind, run.status) == ("a", "finetune", "running")
    assert (run.done, run.planned, run.result) == (25, 30, ("loss", 1.5))


def test_before_the_first_line_nothing_is_done(tmp_path):
    run = view(finetune(tmp_path, "a").path)
    assert (run.done, run.planned, run.result) == (0, 30, None)


def test_only_the_end_of_long_metrics_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_TAIL_BYTES", 100)
    run = view(finetune(tmp_path, "a", lines=[train(step) for step in range(1, 1000)]).path)
    assert (run.done, run.result) == (999, ("loss", 2.0))


@pytest.mark.parametrize(
    ("reason", "status"), [("finished", "done"), ("no_learning", "stopped: no_learning")]
)
def test_a_finetuning_that_a_rule_ended_says_so(tmp_path, reason, status):
    run = view(finetune(tmp_path, "a", lines=[train(20)], end="done", reason=reason).path)
    assert (run.status, run.done) == (status, 20)


@pytest.mark.parametrize("end", ["interrupted", "failed"])
def test_other_ends_are_told_as_they_are(tmp_path, end):
    assert view(finetune(tmp_path, "a", end=end).path).status == end


def test_an_evaluation_shows_finished_masks_and_its_macro_accuracy(tmp_path):
    assert view(evaluation(tmp_path, "a", num_files=4).path).done == 1
    run = view(evaluation(tmp_path, "b", num_files=6, end="done").path)
    assert (run.status, run.done, run.planned) == ("done", 2, 2)
    assert run.result == ("accuracy, causal", 0.5125)


def test_another_kind_has_a_state_only(tmp_path):
    folder = opened(tmp_path, "m", "model")
    folder.finish("done")
    run = view(folder.path)
    assert (run.kind, run.status, run.planned, run.result) == ("model", "done", None, None)


def test_a_run_whose_process_is_gone_is_dead(tmp_path):
    folder = finetune(tmp_path, "a")
    assert run_status(folder.path) == "running"
    dead(folder)
    assert run_status(folder.path) == "dead"
    (folder.path / ".lock").write_text("{")
    assert run_status(folder.path) == "dead"
    (folder.path / ".lock").unlink()
    assert run_status(folder.path) == "dead"


def owner(folder, **facts):
    write_json(folder / ".lock", {**owner_facts(), **facts})
    return has_owner(folder)


def test_who_counts_as_the_owner(tmp_path):
    assert owner(tmp_path)
    assert not owner(tmp_path, boot="another")
    # Nobody can tell from here.
    assert owner(tmp_path, host="another", boot="another", pid=1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_later_process_of_the_same_number_is_not_the_owner(tmp_path):
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3e6))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert owner(tmp_path, pid=child.pid)
        assert not owner(tmp_path, pid=child.pid, since=before)
        child.kill()
        deadline = time.monotonic() + 10
        # Dead and not yet waited for: it still has its number.
        while owner(tmp_path, pid=child.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not owner(tmp_path, pid=child.pid)
    finally:
        child.kill()
        child.communicate()


def test_looking_changes_nothing(tmp_path):
    finetune(tmp_path, "a")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    list_runs(tmp_path)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_runs_are_found_at_any_depth_newest_last(tmp_path):
    created(finetune(tmp_path / "tiny", "b"), "2026-01-02T00:00:00Z")
    created(evaluation(tmp_path, "c"), "2026-01-01T00:00:00Z")
    created(finetune(tmp_path, "a"), "2026-01-03T00:00:00Z")
    write_json(tmp_path / "manifest.json", {"format": 1})
    assert [run.path.name for run in list_runs(tmp_path)] == ["c", "b", "a"]
    assert list_runs(tmp_path)[0].created == 1767225600.0


def test_checkpoints_inside_a_run_and_models_are_no_runs(tmp_path):
    folder = finetune(tmp_path, "a")
    inner = opened(folder.path / "checkpoints", "inner", "x")
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "manifest.json", {"format": "jaxablate"})
    assert [run.path.name for run in list_runs(tmp_path)] == ["a"]
    assert list_runs(inner.path)[0].kind == "x"


def test_damage_hides_no_run(tmp_path):
    broken = finetune(tmp_path, "a")
    (broken.path / "manifest.json").write_text("{")
    no_summary = finetune(tmp_path, "b", lines=[train(10)], end="done")
    (no_summary.path / "summary.json").unlink()
    odd = opened(tmp_path, "c", "evaluate")
    odd.finish("done")
    found = {run.path.name: run for run in list_runs(tmp_path)}
    assert (found["a"].kind, found["a"].status) == ("?", "unreadable")
    assert {found[name].status for name in "bc"} == {"done"}


def test_a_missing_root_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no such folder of runs"):
        list_runs(tmp_path / "none")


def test_the_newest_run_is_the_one_written_last(tmp_path):
    for name, when in (("a", 300), ("b", 200)):
        path = finetune(tmp_path, name, lines=[train(1)]).path
        os.utime(path / "metrics.jsonl", (when, when))
    evaluation(tmp_path, "c")
    assert newest_run(tmp_path).name == "a"


def test_without_metrics_there_is_no_newest_run(tmp_path):
    evaluation(tmp_path, "c")
    with pytest.raises(UserError, match="has no run with metrics"):
        newest_run(tmp_path)


def test_new_lines_come_once_and_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = NewLines(path)
    assert lines.read() == []
    path.write_bytes(b'{"step":1}\n{"st')
    assert lines.read() == [{"step": 1}]
    assert lines.read() == []
    with open(path, "ab") as file:
        file.write(b'ep":2}\n')
    assert lines.read() == [{"step": 2}]


def test_lines_that_a_resumed_run_writes_again_come_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in (1, 2, 3):
            log.append(train(step))
    lines = NewLines(path)
    assert len(lines.read()) == 3
    with MetricsLog(path, 1) as log:
        assert lines.read() == []
        log.append(train(2))
    assert lines.read() == [train(2)]
