import os
import subprocess
import sys

import pytest

from jaxablate.checkpoints.commit import new_folder
from jaxablate.core.errors import UserError


def test_a_folder_appears_only_when_everything_is_written(tmp_path):
    target = tmp_path / "a" / "b"
    with new_folder(target) as partial:
        (partial / "x").write_text("1")
        assert not target.exists()
    assert (target / "x").read_text() == "1"
    assert [p.name for p in target.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("error", [UserError, OSError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, error):
    def fail_half_way():
        with new_folder(tmp_path / "b") as partial:
            (partial / "x").write_text("1")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_full_one_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as partial:
        (partial / "x").write_text("1")
    assert (tmp_path / "empty" / "x").exists()
    with pytest.raises(UserError, match="not empty"), new_folder(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty" / "x").read_text() == "1"


def test_a_file_or_a_link_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(UserError, match="not a folder"), new_folder(tmp_path / name):
            pass


def test_a_folder_that_another_process_filled_meanwhile_is_kept(tmp_path):
    target = tmp_path / "b"

    def lose_the_race():
        with new_folder(target) as partial:
            (partial / "x").write_text("mine")
            target.mkdir()
            (target / "x").write_text("theirs")

    with pytest.raises(UserError, match="cannot be written"):
        lose_the_race()
    assert (target / "x").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), new_folder(tmp_path / "file" / "b"):
        pass


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    program = (
        "import os, sys\n"
        "from jaxablate.checkpoints.commit import new_folder\n"
        "with new_folder(sys.argv[1]) as partial:\n"
        "    (partial / 'x').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "b"], timeout=60)
    assert done.returncode == -9
    left = [p.name for p in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".b.partial-")
    with new_folder(tmp_path / "b") as partial:
        (partial / "x").write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_another_live_process_keeps_its_partial_folder(tmp_path):
    host = os.uname().nodename
    other = tmp_path / f".b.partial-{host}-{os.getppid()}"
    other.mkdir()
    with new_folder(tmp_path / "b") as partial:
        (partial / "x").write_text("1")
    assert other.exists()


def test_everything_is_durable_before_the_folder_appears(tmp_path, monkeypatch):
    synced = set()
    fsync = os.fsync

    def record(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    target = tmp_path / "b"
    rename = type(target).rename

    def check_then_rename(partial, to):
        entries = [partial, *partial.rglob("*")]
        assert {entry.stat().st_ino for entry in entries} <= synced
        synced.clear()
        return rename(partial, to)

    monkeypatch.setattr(type(target), "rename", check_then_rename)
    with new_folder(target) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "x").write_text("1")
    assert (target / "deep" / "x").exists()
    assert synced == {tmp_path.stat().st_ino}
