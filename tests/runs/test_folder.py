"""The same config finds its folder again; another config or a second writer is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from jaxablate.core.errors import UserError
from jaxablate.runs.folder import RunFolder, clean, read_manifest, run_id
from jaxablate.runs.lock import LockedError
from jaxablate.runs.manifest import (
    code_digest,
    environment,
    git_state,
    source_digest,
    versions,
)

CONFIG = {"tasks": ["piqa"], "limit": 5, "seed": 0}


def opened(root, config=CONFIG, **settings):
    return RunFolder.open(root, kind="evaluate", slug="Tiny Model", config=config, **settings)


def snapshot(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_has_a_date_a_slug_and_the_start_of_its_fingerprint(tmp_path):
    with opened(tmp_path) as run:
        assert re.fullmatch(r"\d{8}-tiny-model-[0-9a-f]{6}", run.path.name)
        assert run.manifest["fingerprint"].startswith(run.path.name[-6:])


def test_the_manifest_is_there_before_the_work_and_final_after_it(tmp_path):
    with opened(tmp_path) as run:
        before = read_manifest(run.path)
        assert before["status"] == "running"
        assert before["config"] == CONFIG
        run.note(weights={"digest": "abc"})
        run.finish("done")
    after = read_manifest(run.path)
    assert after["status"] == "done"
    assert after["weights"] == {"digest": "abc"}
    assert after["seconds"] >= 0
    assert {"packages", "python", "platform", "argv", "git", "code"} <= set(after["environment"])


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("broken"), "failed"), (KeyboardInterrupt(), "interrupted")],
)
def test_how_a_run_ended_is_recorded(tmp_path, error, status):
    with pytest.raises(type(error)), opened(tmp_path) as run:
        raise error
    manifest = read_manifest(run.path)
    assert manifest["status"] == manifest["attempts"][-1]["status"] == status
    assert type(error).__name__ in manifest["attempts"][-1]["reason"]


def test_the_same_config_continues_and_keeps_its_id(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError), opened(tmp_path) as first:
        raise RuntimeError
    monkeypatch.setattr(time, "strftime", lambda *_: "20990101")
    with opened(tmp_path) as second:
        assert second.path == first.path
        assert second.attempt == 2
        second.finish("done")
    assert [a["status"] for a in read_manifest(first.path)["attempts"]] == ["failed", "done"]
    with opened(tmp_path) as third:
        assert third.done
    assert len(read_manifest(first.path)["attempts"]) == 2


def test_another_config_gets_another_folder(tmp_path):
    with opened(tmp_path) as first, opened(tmp_path, {**CONFIG, "limit": 6}) as second:
        assert first.path != second.path


def test_a_named_folder_of_another_config_is_refused_with_the_keys_and_not_touched(tmp_path):
    with opened(tmp_path, name="mine") as run:
        run.finish("done")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"mine: holds a run of another config: limit: 5 -> 6"):
        opened(tmp_path, {**CONFIG, "limit": 6}, name="mine")
    with pytest.raises(UserError, match="holds a run of 'evaluate', wanted 'train'"):
        RunFolder.open(tmp_path, kind="train", slug="x", config=CONFIG, name="mine")
    assert snapshot(tmp_path) == before


def test_a_folder_whose_first_manifest_was_never_finished_is_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".manifest.json.x7y").write_text('{"format')
    with opened(tmp_path, name="mine") as run:
        assert run.manifest["status"] == "running"


def test_a_folder_of_something_else_is_refused_and_not_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"not a run folder and not empty \(it has 'thesis"):
        opened(tmp_path, name="mine")
    assert list(snapshot(tmp_path)) == ["thesis.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="this is a file"):
        opened(tmp_path, name="file")


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text('{"status"')
    with pytest.raises(UserError, match=r"manifest\.json: not readable as JSON"):
        opened(tmp_path, name="mine")
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json: not a run's manifest"):
        opened(tmp_path, name="mine")


def test_a_second_writer_is_refused_with_the_owners_name(tmp_path):
    with opened(tmp_path) as run:
        before = snapshot(tmp_path)
        with pytest.raises(LockedError, match=rf"another process writes here \(pid {os.getpid()}"):
            opened(tmp_path)
        assert snapshot(tmp_path) == before
        run.finish("done")
    with opened(tmp_path) as again:
        assert again.done


HOLD = """
import subprocess, sys, time
from jaxablate.runs.folder import RunFolder
run = RunFolder.open(sys.argv[1], kind="evaluate", slug="s", config={}, name="mine")
subprocess.Popen(["sleep", "20"])
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_ends_with_its_process_even_if_children_live_on(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"pid {child.pid} on"):
            RunFolder.open(tmp_path, kind="evaluate", slug="s", config={}, name="mine")
        child.kill()
        child.wait()
        with RunFolder.open(tmp_path, kind="evaluate", slug="s", config={}, name="mine") as run:
            assert run.attempt == 2
            run.finish("done")
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


def test_runs_do_not_import_jax():
    code = (
        "import sys, jaxablate.runs.folder, jaxablate.runs.statistics, jaxablate.core.config,"
        "jaxablate.data.sources; print(sorted({'jax', 'flax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_safe_in_a_file_system():
    assert clean("../../etc/passwd") == "etc-passwd"
    assert clean("") == "run"
    assert "/" not in run_id("a/b", {})


def test_the_environment_is_plain_values():
    assert json.loads(json.dumps(environment())) == environment()
    assert versions()["jax"]
    assert re.fullmatch(r"[0-9a-f]{64}", code_digest())


def test_the_source_digest_sees_names_and_contents(tmp_path):
    digests = []
    for name, content in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2")):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        (folder / name).write_text(content)
        digests.append(source_digest(folder))
    assert len(set(digests)) == 3


def test_git_state_is_none_outside_a_checkout_and_survives_a_missing_git(tmp_path, monkeypatch):
    assert git_state(tmp_path) is None
    (tmp_path / ".git").mkdir()
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) is None
