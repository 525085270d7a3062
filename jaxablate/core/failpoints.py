"""Places by name where a test can stop, slow or break a program.

The code says `failpoint("save.before_commit")`; nothing happens there unless it is armed. Every
action that comes to pass is noted in a file first, so that a test can demand that it did.
"""

import builtins
import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from jaxablate.core.errors import UserError, unknown

_ACTION = re.compile(r"(?P<kind>[a-z]+)(:(?P<value>[^@]+))?(@(?P<number>[1-9]\d*))?")

_armed: dict[str, Callable[[], None]] = {}


def failpoint(name: str) -> None:
    """Does what the name is armed for; else nothing."""
    act = _armed.get(name)
    if act is not None:
        act()


def arm(actions: Mapping[str, str], *, log: str | Path | None = None) -> None:
    """Arm these names and no others.

    Args:
        actions: what happens at each name: "kill", "term", "raise:OSError:28", "sleep:<seconds>"
            or "exit:<code>"; with "@3" behind it at the third time only, else every time.
        log: file that gets a line with the name before each action.
    """
    armed = {name: _action(name, text, log) for name, text in actions.items()}
    _armed.clear()
    _armed.update(armed)


def parse(text: str) -> dict[str, str]:
    """Names and actions from one line.

    >>> parse("save.begin=kill@2; save.data_done=raise:OSError:28")
    {'save.begin': 'kill@2', 'save.data_done': 'raise:OSError:28'}
    """
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    return {name.strip(): action.strip() for name, _, action in pairs}


def _action(name: str, text: str, log: str | Path | None) -> Callable[[], None]:
    match = _ACTION.fullmatch(text)
    if match is None or match["kind"] not in _KINDS:
        raise unknown("failpoint action", text, _KINDS)
    effect, value = _KINDS[match["kind"]], match["value"] or ""
    when = int(match["number"]) if match["number"] else None
    times = itertools.count(1)

    def act() -> None:
        if when in (None, next(times)):
            if log is not None:
                _note(log, name)
            effect(value)

    return act


def _note(log: str | Path, name: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(file, f"{name}\n".encode())
    os.close(file)


def _raise(value: str) -> None:
    kind, _, detail = value.partition(":")
    error = getattr(builtins, kind, None)
    if not (isinstance(error, type) and issubclass(error, BaseException)):
        raise UserError(f"failpoint: raise needs the name of an exception, got {kind!r}")
    raise error(int(detail), os.strerror(int(detail))) if detail.isdigit() else error(detail)


_KINDS: dict[str, Callable[[str], None]] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda _: os.kill(os.getpid(), signal.SIGTERM),
    "raise": _raise,
    "sleep": lambda seconds: time.sleep(float(seconds)),
    "exit": lambda code: os._exit(int(code)),
}
