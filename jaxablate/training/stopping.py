"""A request to stop: noted when it comes, obeyed between two steps, after a save."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from jaxablate.core import processes


class Stopped(Exception):  # noqa: N818 - not an error: everything is saved
    """The run was asked to stop and saved first; the same command goes on."""


class StopRequest:
    """A context in which SIGTERM and the first SIGINT only leave a note; a second SIGINT ends.

    Of several processes all stop after the same step, whichever of them was asked (jax's
    preemption service carries the note).
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Handlers can be set by the main thread alone; jax has its own for several processes.
        if threading.current_thread() is threading.main_thread():
            wanted = [signal.SIGINT] if processes.count() > 1 else [signal.SIGINT, signal.SIGTERM]
            self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name

    def reached(self, step: int) -> bool:
        """Whether to stop after this many steps; every process gets the same answer."""
        if processes.count() == 1:
            return self.signal is not None
        from jax.experimental import multihost_utils

        asked = processes.any_of(self.signal is not None)
        return multihost_utils.reached_preemption_sync_point(step) or asked
