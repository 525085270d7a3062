import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jaxablate
from jaxablate.core import failpoints
from jaxablate.core.errors import UserError
from jaxablate.core.failpoints import arm, failpoint, parse


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    arm({})


def test_nothing_happens_where_nothing_is_armed(tmp_path):
    failpoint("a")
    arm({"b": "raise:OSError:28"}, log=tmp_path / "log")
    failpoint("a")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("action", "kind", "text"),
    [
        ("raise:OSError:28", OSError, "No space left on device"),
        ("raise:ValueError:too much", ValueError, "too much"),
        ("raise:KeyboardInterrupt:now", KeyboardInterrupt, "now"),
    ],
)
def test_an_exception_comes_every_time(tmp_path, action, kind, text):
    arm({"a": action}, log=tmp_path / "log")
    for _ in range(2):
        with pytest.raises(kind, match=text):
            failpoint("a")
    assert (tmp_path / "log").read_text() == "a\na\n"


def test_a_number_means_that_time_only(tmp_path):
    arm({"a": "raise:OSError:5@3"}, log=tmp_path / "log")
    failpoint("a")
    failpoint("a")
    with pytest.raises(OSError, match="Input/output"):
        failpoint("a")
    failpoint("a")
    assert (tmp_path / "log").read_text() == "a\n"


def test_what_is_armed_replaces_what_was():
    arm({"a": "raise:OSError:28"})
    arm({"b": "sleep:0.05"})
    failpoint("a")
    began = time.monotonic()
    failpoint("b")
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize(
    ("action", "code"), [("kill", -signal.SIGKILL), ("term", -signal.SIGTERM), ("exit:75", 75)]
)
def test_an_end_is_noted_before_it_comes(tmp_path, action, code):
    path = Path(failpoints.__file__).parents[2]
    program = (
        "import sys\nfrom jaxablate.core.failpoints import arm, failpoint\n"
        "arm({'a': sys.argv[1]}, log=sys.argv[2])\nfailpoint('a')\n"
        "import time; time.sleep(60)"
    )
    command = [sys.executable, "-c", program, action, str(tmp_path / "log")]
    ended = subprocess.run(command, timeout=30, cwd=path)
    assert ended.returncode == code
    assert (tmp_path / "log").read_text() == "a\n"


@pytest.mark.parametrize("action", ["", "kil", "kill@0", "kill@x", "KILL", "@2"])
def test_an_unknown_action_is_refused(action):
    with pytest.raises(UserError, match="failpoint action"):
        arm({"a": action})


@pytest.mark.parametrize("name", ["Nothing", "print", ""])
def test_only_exceptions_are_raised(name):
    arm({"a": f"raise:{name}:1"})
    with pytest.raises(UserError, match="needs the name of an exception"):
        failpoint("a")


def test_names_and_actions_are_read_from_one_line():
    assert parse("") == {}
    assert parse("a=kill@2;b = raise:ValueError:x=y ;") == {
        "a": "kill@2",
        "b": "raise:ValueError:x=y",
    }


def test_names_in_the_source_are_unique():
    source = Path(jaxablate.__file__).parent
    names = [
        name
        for path in source.rglob("*.py")
        for name in re.findall(r'^\s+failpoint\("([^"]+)"\)', path.read_text(), re.MULTILINE)
    ]
    assert len(names) == len(set(names)) >= 7
