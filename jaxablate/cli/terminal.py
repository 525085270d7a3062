"""What goes to a terminal: control characters of foreign text shown, never obeyed."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jaxablate.core.text import visible
from jaxablate.core.watch import watching

# Work that ends sooner shows no bar.
PATIENCE_S = 1.0


def say(line: str) -> None:
    """One line on stderr, with the program's name, as every message of the command line is.

    Only the first line of a text is said: what follows (a mask's text with a caret) is for Python.
    """
    sentence = " ".join(visible(line.strip().split("\n")[0]).split())
    print(f"jaxablate: {sentence}", file=sys.stderr, flush=True)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, num_text: int = 1
) -> None:
    """A table on stdout, its first `num_text` columns flush left, the rest flush right.

    Cells are data: markup in them is shown as it is.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(Text(visible(name)), justify="left" if index < num_text else "right")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    # A pipe or a file gets whole lines; only a terminal has a width to fit.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table)


@contextmanager
def bars() -> Iterator[None]:
    """A bar on stderr for each long piece of reading inside; none where nobody watches."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks = {}
    started: dict[str, float] = {}

    def watch(work: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - started.setdefault(work, now) < PATIENCE_S:
            return
        if work not in tasks:
            tasks[work] = progress.add_task(work)
        # The terminal is held only while there is a bar: other displays come after it.
        if done < total:
            progress.start()
        progress.update(
            tasks[work], completed=done, total=total, visible=done < total, refresh=True
        )
        if not any(task.visible for task in progress.tasks):
            progress.stop()

    try:
        with watching(watch):
            yield
    finally:
        progress.stop()
