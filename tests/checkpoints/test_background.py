import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import jaxablate
from jaxablate.checkpoints.background import Background, reason
from jaxablate.core.errors import SaveError, UserError

ROOT = Path(jaxablate.__file__).parents[1]


def fail_with(error):
    def work():
        raise error

    return work


def test_work_goes_on_beside_and_is_waited_for():
    may_end, done = threading.Event(), []
    background = Background(60.0)
    background.start("x", lambda: (may_end.wait(), done.append(1)))
    assert done == []
    may_end.set()
    background.wait()
    assert done == [1]
    background.wait()


def test_a_failure_is_raised_once_and_the_next_work_begins_clean():
    background = Background(60.0)
    cause = ZeroDivisionError("by nought")
    background.start("step 3", fail_with(cause))
    with pytest.raises(SaveError, match=r"^step 3: could not .*ZeroDivisionError: by nought") as e:
        background.wait()
    assert e.value.__cause__ is cause
    background.wait()
    background.start("step 4", lambda: None)
    background.wait()


def test_a_sentence_for_the_user_comes_as_it_is():
    background = Background(60.0)
    background.start("step 3", fail_with(UserError("as it is")))
    with pytest.raises(UserError, match=r"^as it is$"):
        background.wait()


def test_the_reason_is_the_systems_word_where_there_is_one():
    assert reason(OSError(28, "whatever", "file")) == "no space left on device"
    text = "RESOURCE_EXHAUSTED: Error writing a: failed [os_error_code='27'] [source='x']"
    assert reason(ValueError(text)) == "file too large"
    assert reason(RuntimeError("a\n b")) == "RuntimeError: a b"
    assert len(reason(RuntimeError("a" * 1000))) == 200


def end(program):
    """Run a program to its end; its output and how long it took."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout, time.monotonic() - began


def test_a_program_that_ends_lets_its_work_end_first_pools_included():
    program = """
        import time
        from concurrent.futures import ThreadPoolExecutor
        from jaxablate.checkpoints.background import Background
        def work():
            time.sleep(0.5)
            print(ThreadPoolExecutor().submit(lambda: "done").result(), flush=True)
        background = Background(50)
        background.start("x", work)
    """
    assert end(program)[0] == "done\n"


def test_a_program_whose_work_hangs_ends_all_the_same():
    program = """
        import time
        from concurrent.futures import ThreadPoolExecutor
        from jaxablate.checkpoints.background import Background
        background = Background(0.5)
        pool = ThreadPoolExecutor
        background.start("x", lambda: pool().submit(time.sleep, 1000).result())
    """
    assert end(program)[1] < 50
