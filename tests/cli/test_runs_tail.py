"""`jaxablate runs` and `jaxablate tail` as a user sees them, without jax."""

import json
import subprocess
import sys
import threading
import time

import pytest

from jaxablate.cli import main, tail
from jaxablate.core.files import write_json
from jaxablate.runs.folder import RunFolder
from jaxablate.runs.metrics import MetricsLog


def train(step):
    return {"step": step, "kind": "train", "loss": 2.5, "learning_rate": 1e-4, "grad_norm": 0.25}


EVAL = {"step": 20, "kind": "eval", "mask": "prefix_lm", "loss": 1.75, "leaky": False}
SUMMARY = {"stop_reason": "plateau", "stopped": True, "steps_done": 20,
           "sentence": "held-out loss is 1.75 at step 20"}  # fmt: skip


HELD = []


@pytest.fixture(autouse=True)
def _locks_are_let_go():
    yield
    while HELD:
        HELD.pop()._lock.release()


def start(root, name="prefix", kind="finetune", config=None):
    """A run of this process."""
    config = config or {"steps": 30}
    HELD.append(RunFolder.open(root, kind=kind, slug="x", config=config, name=name))
    return HELD[-1]


def write(folder, *entries):
    with MetricsLog(folder.path / "metrics.jsonl") as log:
        for entry in entries:
            log.append(entry)


def end(folder):
    write_json(folder.path / "summary.json", SUMMARY)
    folder.finish("done")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A stopped finetuning and a failed evaluation under runs/ of the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = start(tmp_path / "runs" / "tiny")
    write(folder, *(train(step) for step in range(1, 21)), EVAL)
    end(folder)
    config = {"masks": ["causal"], "tasks": ["piqa"]}
    evaluation = start("runs", "odd\x1b[2Jname", "evaluate", config)
    evaluation.finish("failed", "UserError: no")
    return tmp_path / "runs"


def test_runs_are_listed_with_state_progress_and_result(runs, capsys):
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "prefix" in line]
    assert line.split() == ["tiny/prefix", "finetune", "stopped:", "plateau", "20/30", "2.5000",
                            "loss", *line.split()[7:]]  # fmt: skip
    assert line.split()[-1] == "s"
    assert any(r"odd\x1b[2Jname" in line and "failed" in line and "0/1" in line for line in lines)


def test_runs_as_json(runs, capsys):
    assert main(["runs", str(runs), "--json"]) == 0
    found = {run["id"]: run for run in json.loads(capsys.readouterr().out)}
    prefix = found["prefix"]
    assert 0 <= prefix.pop("age_s") < 60
    assert prefix == {
        "path": str(runs / "tiny" / "prefix"),
        "id": "prefix",
        "kind": "finetune",
        "status": "stopped: plateau",
        "done": 20,
        "planned": 30,
        "result": {"name": "loss", "value": 2.5},
    }
    assert found["odd\x1b[2Jname"]["result"] is None


def test_a_loss_that_is_no_number_stays_json(tmp_path, capsys):
    write(start(tmp_path), {**train(1), "loss": float("nan")})
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert run["result"]["value"] == "nan"


def test_an_empty_folder_has_no_runs_and_a_missing_one_is_an_error(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert "has no runs" in capsys.readouterr().err
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert "no such folder of runs" in capsys.readouterr().err


def test_tail_shows_the_newest_lines_of_the_newest_run(runs, capsys):
    assert main(["tail"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 10
    assert lines[-2] == "step 20/30: loss 2.5000, learning rate 1.00e-04, gradient norm 0.25"
    assert lines[-1] == "step 20/30: held-out loss 1.7500 under prefix_lm"
    assert "plateau: held-out loss is 1.75 at step 20" in err


@pytest.mark.parametrize(("number", "shown"), [("0", 0), ("3", 3), ("50", 21)])
def test_the_number_of_lines_is_asked_for(runs, capsys, number, shown):
    assert main(["tail", str(runs / "tiny" / "prefix"), "-n", number]) == 0
    assert len(capsys.readouterr().out.splitlines()) == shown


def test_a_line_of_another_make_is_shown_as_it_is(tmp_path, capsys):
    write(start(tmp_path), {"step": 1, "kind": "train", "odd": "\x1b[2J"})
    assert main(["tail", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    assert "'odd'" in out
    assert "\x1b" not in out


def test_an_evaluation_has_nothing_to_tail(runs, capsys):
    assert main(["tail", str(runs / "odd\x1b[2Jname")]) == 2
    assert "a run of 'evaluate', which writes no metrics line by line" in capsys.readouterr().err


def test_following_shows_what_comes_until_the_run_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tail, "POLL_S", 0.01)
    folder = start(tmp_path)
    write(folder, train(1))

    def go_on():
        time.sleep(0.2)
        write(folder, train(2))
        write(folder, train(3))
        end(folder)

    thread = threading.Thread(target=go_on)
    thread.start()
    assert main(["tail", str(tmp_path), "-f"]) == 0
    thread.join()
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == [f"step {n}/30" for n in (1, 2, 3)]
    assert "plateau: held-out loss" in err


def test_following_ends_when_the_process_is_gone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tail, "POLL_S", 0.01)
    folder = start(tmp_path)
    path = folder.path / ".lock"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "an earlier one"}))
    assert main(["tail", str(folder.path), "-f"]) == 0
    assert "its process is gone; the command that began the run goes on" in capsys.readouterr().err


def test_a_failed_run_says_why(tmp_path, capsys):
    folder = start(tmp_path)
    write(folder, train(1))
    folder.finish("failed", "SaveError: disk full")
    assert main(["tail", str(tmp_path), "-f"]) == 0
    assert "failed (SaveError: disk full)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["runs", "--help"], ["tail", "--help"], ["runs"]])
def test_neither_imports_jax(tmp_path, words):
    words = words if "--help" in words else [*words, str(tmp_path)]
    code = f"""
import sys
from jaxablate.cli import main
assert main({words!r}) == 0
assert not {{"jax", "flax", "orbax"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
