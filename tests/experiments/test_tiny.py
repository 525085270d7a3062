"""The whole study on a tiny model, as a user runs it: killed on the way, it ends the same."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUT = Path("runs") / "tiny"
REPORT = ("experiment.json", "report.md", "report.html")


def start(cwd, cache, *words):
    """`jaxablate run` on the tiny study, in a process of its own; stdout has everything it says."""
    cwd.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),  # its own: a kill may leave half a program
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=1"),
    }
    config = str(ROOT / "configs" / "ablation" / "tiny.yaml")
    return subprocess.Popen(
        [sys.executable, "-m", "jaxablate", "run", config, "--out", str(OUT), *words],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    """The lines of a process that ends by itself, well."""
    told = process.communicate()[0]
    assert process.returncode == 0, told
    return told.splitlines()


def stop_after(process, lines, number):
    """Send a signal right after so many lines; what was said by then, and the exit code."""
    told = [process.stdout.readline() for _ in range(lines)]
    assert process.poll() is None, "".join(told)
    process.send_signal(number)
    told.append(process.communicate()[0])
    return "".join(told), process.returncode


def deterministic(root):
    """Content of every file below an experiment that must not depend on when and how it was run."""
    found = {name: (root / name).read_bytes() for name in REPORT}
    for pattern in ("*/metrics.jsonl", "*/metrics.json", "*/records/*.jsonl"):
        found |= {str(p.relative_to(root)): p.read_bytes() for p in root.glob(pattern)}
    for path in root.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        del summary["rates"]
        found[str(path.relative_to(root))] = json.dumps(summary, sort_keys=True).encode()
    for path in root.glob("*/checkpoints/step-*/manifest.json"):
        arrays = json.loads(path.read_text())["record"]["arrays"]
        found[str(path.relative_to(root))] = json.dumps(arrays, sort_keys=True).encode()
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    cwd = tmp_path_factory.mktemp("undisturbed")
    return cwd, finish(start(cwd, cache))


def test_killed_twice_anywhere_it_ends_byte_for_byte_the_same(undisturbed, tmp_path, cache):
    cwd, told = undisturbed
    seed = random.SystemRandom().randrange(2**32)
    choose = random.Random(seed)
    kills = [choose.randrange(25, len(told) // 2), choose.randrange(25, len(told) // 3)]
    for lines in kills:
        said, code = stop_after(start(tmp_path / "killed", cache), lines, signal.SIGKILL)
        assert code == -signal.SIGKILL, said
    again = finish(start(tmp_path / "killed", cache))
    root = tmp_path / "killed" / OUT
    expected, found = deterministic(cwd / OUT), deterministic(root)
    assert len(expected) > 50
    differing = [name for name in expected if found.get(name) != expected[name]]
    assert (differing, sorted(found)) == ([], sorted(expected)), f"seed {seed}, killed at {kills}"
    # What was done is not done again: beyond one attempt a run, there is at most one for each kill.
    manifests = [json.loads(p.read_text()) for p in root.glob("*/manifest.json")]
    attempts = [len(manifest["attempts"]) for manifest in manifests]
    assert sum(attempts) <= len(attempts) + len(kills)
    assert sum("done before" in line for line in again) >= 1


def test_every_stage_is_in_the_report_and_the_leak_gives_itself_away(undisturbed):
    cwd, told = undisturbed
    root = cwd / OUT
    stages = {s["name"]: s for s in json.loads((root / "experiment.json").read_text())["stages"]}
    assert {"stage1", "stage2", "stage3a", "stage3b", "stage4b", "stage5", "leak"} <= set(stages)
    page = (root / "report.html").read_text()
    assert all(stage["run"] in page for stage in stages.values())
    assert str(cwd) not in page + (root / "experiment.json").read_text()
    summary = json.loads((root / stages["leak"]["run"] / "summary.json").read_text())
    leaky = summary["final"]["evals"]["full_bidirectional"]
    assert leaky["loss"] < 1 < 3 < leaky["decode_loss"]
    assert [alarm["rule"] for alarm in summary["alarms"]] == ["leak_alarm"]
    honest = json.loads((root / stages["stage3b"]["run"] / "summary.json").read_text())
    plain = honest["final"]["evals"]["prefix_lm"]
    assert plain["decode_loss"] == pytest.approx(plain["teacher_loss"], abs=1e-4)
    assert (honest["alarms"], honest["stop_reason"]) == ([], "finished")
    long = json.loads((root / stages["stage5"]["run"] / "summary.json").read_text())
    assert (long["stop_reason"], long["stopped"]) == ("plateau", True)
    assert any(line.split()[:1] == ["stage3b"] and "[" in line for line in told)
    assert any("not distinguishable" in line for line in told)


def test_sigterm_saves_ends_with_75_and_the_next_start_goes_on(tmp_path, cache):
    words = ("--stages", "stage3a", "--set", "stages.stage3a.steps=400")
    process = start(tmp_path, cache, *words)
    told = []
    while "step 8/400" not in (told or [""])[-1]:
        told.append(process.stdout.readline())
        assert told[-1], "".join(told)
    process.terminate()
    told.append(process.communicate()[0])
    assert process.returncode == 75, "".join(told)
    assert "run the same command again" in told[-1]
    (run,) = (tmp_path / OUT).glob("stage3a-*")
    assert list(run.glob("checkpoints/step-*"))
    listed = finish(start(tmp_path, cache, *words, "--list"))
    assert any(line.split()[:1] == ["stage3a"] and "to resume" in line for line in listed)
