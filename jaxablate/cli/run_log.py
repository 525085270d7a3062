"""log.txt of a run folder: what the display says as lines, with the time, over all its starts."""

from pathlib import Path
from typing import IO, Any

from jaxablate.cli.training_display import TrainingDisplay
from jaxablate.runs.manifest import now

NAME = "log.txt"


class RunLog:
    """An observer that keeps the lines of a run beside its results."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._lines = TrainingDisplay()

    def on_begin(self, facts: dict[str, Any]) -> None:
        """Open the log, behind what an earlier start left in it."""
        self._file = open(Path(facts["path"]) / NAME, "a", encoding="utf-8")  # noqa: SIM115
        self._lines = TrainingDisplay(_Stamped(self._file))
        self._lines.on_begin(facts)

    def on_metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """Write a line of metrics."""
        self._lines.on_metrics(entry, timing)

    def on_note(self, sentence: str) -> None:
        """Write a sentence."""
        self._lines.on_note(sentence)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Write how the run ended."""
        self._lines.on_end(summary)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._lines.close()
        if self._file is not None:
            self._file.close()


class _Stamped:
    """A text file whose lines begin with the time in UTC."""

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, text: str, /) -> int:
        return self._file.write(f"{now()} {text}")

    def flush(self) -> None:
        self._file.flush()

    def isatty(self) -> bool:
        return False
