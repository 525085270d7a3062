"""How far an evaluation is: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable
from typing import IO, Any, Protocol, cast, runtime_checkable


@runtime_checkable
class Stream(Protocol):
    """Where text goes: standard error, or a file."""

    def write(self, text: str, /) -> int:
        """Take some text."""
        ...

    def flush(self) -> None:
        """Let it go now."""
        ...

    def isatty(self) -> bool:
        """Whether somebody watches."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Told of every finished item. One object serves all masks of a run, one after another."""

    def start(self, name: str, total: int, done: int, correct: int) -> None:
        """A mask begins; `done` items are known from before."""
        ...

    def advance(self, items: int, correct: int) -> None:
        """That many more items are done, so many of them right."""
        ...

    def finish(self) -> None:
        """The mask is done, or the run ends."""
        ...


class Silent:
    """Says nothing."""

    def start(self, name: str, total: int, done: int, correct: int) -> None:
        """Nothing."""

    def advance(self, items: int, correct: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class Lines:
    """A line at the start, every so many seconds, and at the end."""

    def __init__(self, stream: Stream, every_s: float, clock: Callable[[], float] = time.monotonic):
        self._stream, self._every_s, self._clock = stream, every_s, clock
        self._name = ""

    def start(self, name: str, total: int, done: int, correct: int) -> None:
        """Begin counting; the rate counts this run's items only."""
        self._name, self._total = name, total
        self._done, self._correct, self._known = done, correct, done
        self._began = self._said = self._clock()
        self._say()

    def advance(self, items: int, correct: int) -> None:
        """Count, and speak when it is time."""
        self._done += items
        self._correct += correct
        if self._clock() - self._said >= self._every_s:
            self._say()

    def finish(self) -> None:
        """The last line, unless it was said."""
        if self._name and self._spoken != self._done:
            self._say()
        self._name = ""

    def _say(self) -> None:
        self._said, self._spoken = self._clock(), self._done
        parts = [f"{self._name}: {self._done}/{self._total} items"]
        if self._done:
            parts.append(f"accuracy {self._correct / self._done:.3f}")
        fresh, seconds = self._done - self._known, self._said - self._began
        if fresh and seconds > 0 and self._done < self._total:
            left = (self._total - self._done) * seconds / fresh
            parts.append(f"{duration(left)} left")
        self._stream.write(", ".join(parts) + "\n")
        self._stream.flush()


class Bar:
    """A bar with accuracy so far and time left."""

    def __init__(self, stream: Stream):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("accuracy {task.fields[accuracy]}"),
            TimeRemainingColumn(),
            console=Console(file=cast(IO[str], stream)),
        )
        self._task: Any = None

    def start(self, name: str, total: int, done: int, correct: int) -> None:
        """A new bar below the finished ones."""
        self._done, self._correct = done, correct
        self._bar.start()
        self._task = self._bar.add_task(name, total=total, completed=done, accuracy=self._share())

    def advance(self, items: int, correct: int) -> None:
        """Move the bar."""
        self._done += items
        self._correct += correct
        self._bar.update(self._task, advance=items, accuracy=self._share())

    def finish(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def _share(self) -> str:
        return f"{self._correct / self._done:.3f}" if self._done else "-"


def progress_for(stream: Stream, every_s: float) -> Progress:
    """A bar where somebody watches, lines where a file does."""
    return Bar(stream) if stream.isatty() else Lines(stream, every_s)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725.0)
    '1:02:05'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
