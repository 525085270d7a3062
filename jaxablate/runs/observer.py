"""Who is told how a run goes: displays and trackers. None of them can end it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Observer(Protocol):
    """Told of a run in this order: begin, then metrics and notes, then end.

    A run that failed or was interrupted ends without `on_end`. An observer that holds something
    open may also have a `close()`, called last however the run ended.
    """

    def on_begin(self, facts: dict[str, Any]) -> None:
        """The run starts or goes on; `facts` name it and say how far it is.

        Keys: "run" (its folder's name), "path", "step" (steps done before), "steps" (all steps),
        "mask" (of training). Where known also "position" (lines of metrics written before),
        "checkpoint", "leaky", "config" (plain values).
        """
        ...

    def on_metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """A line of metrics.jsonl, and for training the line of timing.jsonl that goes with it."""
        ...

    def on_note(self, sentence: str) -> None:
        """Something worth saying that is no number."""
        ...

    def on_end(self, summary: dict[str, Any]) -> None:
        """The run is over; `summary` is what summary.json holds."""
        ...


class Observers:
    """Several observers as one. One that fails is switched off with a note to the others.

    >>> class Loud:
    ...     def on_note(self, sentence):
    ...         print(sentence)
    >>> class Broken:
    ...     def on_note(self, sentence):
    ...         raise RuntimeError("no connection")
    >>> everybody = Observers([Loud(), Broken()])
    >>> for sentence in ("first", "second"):
    ...     everybody.on_note(sentence)
    first
    Broken failed and is switched off: RuntimeError: no connection
    second
    """

    def __init__(self, observers: Sequence[Any] = ()):
        self._active = list(observers)

    @property
    def active(self) -> list[Any]:
        """Those that are still told."""
        return list(self._active)

    def on_begin(self, facts: dict[str, Any]) -> None:
        """Tell all."""
        self._tell("on_begin", facts)

    def on_metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """Tell all."""
        self._tell("on_metrics", entry, timing)

    def on_note(self, sentence: str) -> None:
        """Tell all."""
        self._tell("on_note", sentence)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Tell all."""
        self._tell("on_end", summary)

    def close(self) -> None:
        """Tell those that have a `close` that nothing more comes."""
        for observer in list(self._active):
            if hasattr(observer, "close"):
                self._tell_one(observer, "close")

    def _tell(self, method: str, *facts: Any) -> None:
        told = [self._tell_one(observer, method, *facts) for observer in list(self._active)]
        # Nobody is told twice of one failure: whoever fails at the note is gone by then.
        for sentence in filter(None, told):
            self._tell("on_note", sentence)

    def _tell_one(self, observer: Any, method: str, *facts: Any) -> str | None:
        """None, or why the observer was switched off."""
        try:
            getattr(observer, method)(*facts)
        # Whatever goes wrong in a tracker, the run is worth more.
        except Exception as error:  # noqa: BLE001
            self._active.remove(observer)
            return _sentence(observer, error)
        return None


def _sentence(observer: Any, error: Exception) -> str:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
    return f"{type(observer).__name__} failed and is switched off: {what}"
