"""One piece of work at a time beside the training loop, and a bounded wait for it.

The thread is a daemon, so work that hangs (a dead disk) cannot keep the interpreter from ending.
"""

import concurrent.futures.thread
import os
import re
import threading
import time
import weakref
from collections.abc import Callable

from jaxablate.core.errors import SaveError, UserError


class Background:
    """Runs one piece of work; its failure is raised by the next `wait`."""

    def __init__(self, timeout_s: float):
        self.timeout_s = timeout_s
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._what, self._deadline = "", 0.0
        _ALL.add(self)

    def start(self, what: str, work: Callable[[], None]) -> None:
        """Begin `work`; `what` is how an error calls it. The one before must have ended."""
        assert self._thread is None, "two saves at once"
        self._what, self._deadline = what, time.monotonic() + self.timeout_s

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised again by wait()
                self._error = error

        self._thread = threading.Thread(target=run, name="save", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the work is done.

        Raises:
            SaveError: when it failed, or runs for longer than `timeout_s`.
            UserError: as the work raised it.
        """
        if self._thread is None:
            return
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._thread.is_alive():
            raise SaveError(f"{self._what}: was not saved within {self.timeout_s:g} s")
        error, self._error, self._thread = self._error, None, None
        if isinstance(error, UserError):
            raise error
        if error is not None:
            raise SaveError(f"{self._what}: could not be saved ({reason(error)})") from error

    def at_exit(self) -> None:
        """Give work that is on its way the rest of its time."""
        if self._thread is None:
            return
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._thread.is_alive():
            # The pools of hung work would be waited for without end. Their threads are daemons,
            # since a daemon started them.
            concurrent.futures.thread._threads_queues.clear()  # pyright: ignore[reportAttributeAccessIssue]


def reason(error: BaseException) -> str:
    """Why something failed, in a few words; array stores hide the system's word in a long text."""
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"os_error_code='(\d+)'", str(error)):
        number = int(found[1])
    if number:
        return os.strerror(number).lower()
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


_ALL: weakref.WeakSet[Background] = weakref.WeakSet()


def _wait_for_all() -> None:
    for background in list(_ALL):
        background.at_exit()


# An ordinary exit hook runs too late: thread pools, which writing needs, are closed before it.
# These run in reverse order: this one, set after the import of the pools, comes before theirs.
threading._register_atexit(_wait_for_all)  # pyright: ignore[reportAttributeAccessIssue]
