"""A request to stop: noted when it comes, obeyed between two steps, after a save."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from jaxablate.core import processes
from jaxablate.core.errors import Stopped

__all__ = ["StopRequest", "Stopped"]


class StopRequest:
    """A context in which SIGTERM and the first SIGINT only leave a note; a second SIGINT ends.

    Several processes leave signals to jax, whose preemption service carries a SIGTERM of one to
    all of them and names the step after which they stop.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Handlers can be set by the main thread alone.
        if processes.count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self.signal is not None:
            # Too late for this work, which is done; whoever goes on after it should know.
            number = signal.Signals[self.signal]
            if callable(self._before[number]):
                signal.raise_signal(number)

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

        return bool(multihost_utils.reached_preemption_sync_point(step))
