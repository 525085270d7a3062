import json
import subprocess
import sys

import pytest

from jaxablate.runs.folder import RunFolder, read_manifest
from jaxablate.runs.lock import NAME, FolderLock, LockedError


def test_the_owner_passes_the_fence_again_and_again(tmp_path):
    lock = FolderLock(tmp_path)
    lock.check()
    lock.check()
    with pytest.raises(LockedError, match="another process writes here"):
        FolderLock(tmp_path)
    lock.release()


def test_a_lock_that_was_let_go_does_not_pass(tmp_path):
    lock = FolderLock(tmp_path)
    lock.release()
    with pytest.raises(LockedError, match="does not own it any more"):
        lock.check()


def test_a_replaced_lock_file_stops_the_old_owner_and_names_the_new(tmp_path):
    old = FolderLock(tmp_path)
    (tmp_path / NAME).unlink()
    with pytest.raises(LockedError, match="does not own it any more"):
        old.check()
    new = FolderLock(tmp_path)
    assert new.attempt == old.attempt == 1  # the number was deleted with the file: the inode tells
    with pytest.raises(LockedError, match=r"\(pid \d+ on .*\)"):
        old.check()
    new.check()
    old.release()
    new.release()


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"attempt": 2}', '{"attempt": "1"}', "{"])
def test_a_lock_file_with_another_attempt_in_it_stops_the_owner(tmp_path, text):
    lock = FolderLock(tmp_path)
    (tmp_path / NAME).write_text(text)
    with pytest.raises(LockedError, match="does not own it any more"):
        lock.check()
    lock.release()


_LATER = """
import sys
from jaxablate.runs.lock import FolderLock
print(FolderLock(sys.argv[1]).attempt)
"""


def test_every_holder_has_a_higher_number_and_only_the_last_one_passes(tmp_path):
    first = FolderLock(tmp_path)
    first.release()
    command = [sys.executable, "-c", _LATER, str(tmp_path)]
    later = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert later.stdout == "2\n", later.stderr
    assert json.loads((tmp_path / NAME).read_text())["attempt"] == 2
    third = FolderLock(tmp_path)
    third.check()
    with pytest.raises(LockedError):
        first.check()
    third.release()


def test_a_run_that_lost_its_folder_writes_nothing_more(tmp_path):
    with RunFolder(tmp_path / "run", "finetune", {"a": 1}) as run:
        run.fence()
        run.note(tokens=1)
        (run.path / NAME).unlink()
        with RunFolder(tmp_path / "run", "finetune", {"a": 1}) as other:
            before = (run.path / "manifest.json").read_bytes()
            with pytest.raises(LockedError):
                run.fence()
            with pytest.raises(LockedError):
                run.note(tokens=2)
            assert (run.path / "manifest.json").read_bytes() == before
            other.finish("done")
    assert read_manifest(tmp_path / "run")["status"] == "done"


def test_the_error_of_a_run_that_lost_its_folder_is_not_hidden_by_its_last_note(tmp_path):
    def lose_it():
        with RunFolder(tmp_path / "run", "finetune", {"a": 1}) as run:
            (run.path / NAME).unlink()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lose_it()
    assert read_manifest(tmp_path / "run")["status"] == "running"
