"""What goes to a terminal: control characters of foreign text shown, never obeyed."""

import sys
from collections.abc import Sequence

from jaxablate.core.text import visible


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
