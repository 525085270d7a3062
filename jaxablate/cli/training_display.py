"""How a training run goes, for people: a board on a terminal, plain lines anywhere else."""

import atexit
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from jaxablate.cli.metric_lines import decoded, rates, sentence, trained
from jaxablate.core.text import visible
from jaxablate.evaluation.progress import Stream, duration

NOTES = 3
REFRESH_PER_S = 4


class TrainingDisplay:
    """An observer that shows a run on standard error.

    Args:
        stream: where to show it; default: standard error as it is when the run begins.
        console: a rich console to draw the board on; default: the stream, where it is a terminal.
        clock: seconds.
    """

    def __init__(
        self,
        stream: Stream | None = None,
        *,
        console: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream, self._console, self._clock = stream, console, clock
        self._shown: Lines | Board | None = None

    def on_begin(self, facts: dict[str, Any]) -> None:
        """Say what begins, and where it goes on."""
        self.close()
        stream = self._stream or sys.stderr
        if self._console is None and stream.isatty():
            from rich.console import Console

            self._console = Console(file=stream)  # pyright: ignore[reportArgumentType]
        forecast = Forecast(facts["steps"], self._clock)
        if self._console is None:
            self._shown = Lines(stream, facts, forecast)
        else:
            self._shown = Board(self._console, facts, forecast)
            # A program that ends otherwise would leave the terminal without its cursor.
            atexit.register(self.close)

    def on_metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """Show a line of metrics."""
        if self._shown is not None:
            self._shown.metrics(entry, timing)

    def on_note(self, sentence: str) -> None:
        """Show a sentence."""
        if self._shown is not None:
            self._shown.note(sentence)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Show how the run ended."""
        if self._shown is not None:
            self._shown.note(f"{summary['stop_reason']}: {summary['sentence']}")
        self.close()

    def close(self) -> None:
        """Leave the terminal as it stands; a second time does nothing."""
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.close()
            atexit.unregister(self.close)


class Forecast:
    """Time left, from the pace since the first "train" line of this start.

    The compilation before that line does not count, evaluations and saves after it do.
    """

    def __init__(self, steps: int, clock: Callable[[], float]):
        self.steps, self._clock = steps, clock
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None

    def reached(self, step: int) -> None:
        """A "train" line came."""
        self._last = (step, self._clock())
        self._first = self._first or self._last

    def left(self) -> float | None:
        """Seconds to the last step by now; None before there is a pace."""
        if self._first is None or self._last is None or self._last[0] == self._first[0]:
            return None
        (step, then), (began, start) = self._last, self._first
        remaining = (self.steps - step) * (then - start) / (step - began)
        return max(0.0, remaining - (self._clock() - then))

    def sentence(self) -> str | None:
        """The same in words."""
        left = self.left()
        over = self._last is not None and self._last[0] >= self.steps
        return None if left is None or over else f"{duration(left)} left"


def opening(facts: dict[str, Any]) -> str:
    """What a run is, and whether it begins or goes on."""
    what = f"{facts.get('checkpoint', 'a checkpoint')} under {facts['mask']}"
    stamp = " LEAKY" if facts.get("leaky") else ""
    step, steps = facts["step"], facts["steps"]
    start = f"goes on after step {step} of {steps}" if step else f"{steps} steps"
    return f"{facts['run']}: training {what}{stamp}, {start}"


class Lines:
    """One line for each line of metrics."""

    def __init__(self, stream: Stream, facts: dict[str, Any], forecast: Forecast):
        self._stream, self._forecast = stream, forecast
        self.note(opening(facts))

    def metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """The line, with the time left."""
        told = sentence(entry, steps=self._forecast.steps, timing=timing)
        if entry["kind"] == "train":
            self._forecast.reached(entry["step"])
            left = self._forecast.sentence()
            told += f", {left}" if left else ""
        self.note(told)

    def note(self, sentence: str) -> None:
        """A line."""
        self._stream.write(" ".join(visible(sentence).split()) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""


class Board:
    """A few lines on a terminal, drawn again and again. What it shows is data, never markup."""

    def __init__(self, console: Any, facts: dict[str, Any], forecast: Forecast):
        from rich.live import Live

        self._title, self._forecast = opening(facts), forecast
        self._step: int = facts["step"]
        self._trained: list[str] = ["waiting for the first steps (programs are being compiled)"]
        self._rates: list[str] = []
        self._evals: dict[str, dict[str, Any]] = {}
        self._notes: deque[str] = deque(maxlen=NOTES)
        self._live = Live(self, console=console, refresh_per_second=REFRESH_PER_S)
        self._live.start(refresh=True)

    def metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """Show the newest numbers."""
        self._step = entry["step"]
        if entry["kind"] == "eval":
            # The drawing thread keeps the table that it has begun to read.
            self._evals = {**self._evals, entry["mask"]: entry}
        else:
            self._trained = trained(entry)
            self._rates = rates(timing) if timing is not None else self._rates
            self._forecast.reached(entry["step"])
        self._live.refresh()

    def note(self, sentence: str) -> None:
        """Show it until newer ones push it out."""
        self._notes.append(sentence)
        self._live.refresh()

    def close(self) -> None:
        """Leave the last picture."""
        self._live.stop()

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        lines = [", ".join(self._trained), ", ".join(self._rates), *self._notes]
        told = [Text(" ".join(visible(line).split())) for line in lines if line]
        parts = [Text(visible(self._title)), self._bar(), *told[: len(told) - len(self._notes)]]
        if self._evals:
            parts.append(self._table())
        return Group(*parts, *told[len(told) - len(self._notes) :])

    def _bar(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        steps = self._forecast.steps
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=steps, completed=self._step, width=40)
        left = self._forecast.sentence() or ""
        grid.add_row(bar, Text(f"step {self._step}/{steps}"), Text(left))
        return grid

    def _table(self) -> Any:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("held out under")
        for name in ("nats/token", "decoded", "at step"):
            table.add_column(name, justify="right")
        for mask, entry in self._evals.items():
            table.add_row(
                Text(visible(mask) + (" LEAKY" if entry["leaky"] else "")),
                f"{entry['loss']:.4f}",
                decoded(entry) if "decode_loss" in entry else "",
                str(entry["step"]),
            )
        return table
