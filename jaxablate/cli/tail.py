"""Show the newest lines of a finetuning run's metrics as sentences, and with -f those that come.

RUN is a run's folder, or a folder of runs, of which the one that was written last is shown.
Following ends when the run does: it is done, was interrupted, failed, or its process is gone.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from jaxablate.cli.metric_lines import sentence
from jaxablate.cli.parser import Parser, whole
from jaxablate.cli.terminal import say
from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json
from jaxablate.core.text import visible
from jaxablate.runs.folder import MANIFEST, TRAINING, read_manifest
from jaxablate.runs.listing import (
    DEAD,
    METRIC_LINES,
    RUNNING,
    SUMMARY,
    NewLines,
    newest_run,
    run_status,
)

EXAMPLES = """
jaxablate tail
jaxablate tail runs/prefix -n 50
jaxablate tail runs/tiny -f
"""

POLL_S = 0.5


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", nargs="?", type=Path, default=Path("runs"), help="run or folder of runs (runs)"
    )
    parser.add_argument(
        "-n", type=whole(0), default=10, metavar="N", help="lines to begin with (default 10)"
    )
    parser.add_argument("-f", action="store_true", help="go on until the run ends")


def run(args: argparse.Namespace) -> int:
    """Print lines, then how the run stands."""
    path = find_run(args.run)
    manifest = read_manifest(path)
    lines = NewLines(path / METRIC_LINES)
    say(f"{path}: {run_status(path, manifest)}")
    # Asked before reading: a run that ends in between has written its last line by then.
    status = run_status(path)
    before = lines.read()
    show(before[max(0, len(before) - args.n) :], manifest)
    while args.f and status == RUNNING:
        time.sleep(POLL_S)
        status = run_status(path)
        show(lines.read(), manifest)
    if args.f or status != RUNNING:
        say(ending(path, status))
    return 0


def find_run(path: Path) -> Path:
    """The run in a folder, or the newest one below it.

    Raises:
        UserError: when there is none, or it is of a kind that writes no metrics line by line.
    """
    if not (path / MANIFEST).is_file():
        return newest_run(path)
    kind = read_manifest(path)["kind"]
    if kind not in TRAINING:
        raise UserError(f"{path}: holds a run of {kind!r}, which writes no metrics line by line")
    return path


def show(entries: list[dict[str, Any]], manifest: dict[str, Any]) -> None:
    """Print entries; one of another make is shown as it is."""
    steps = manifest["config"].get("steps")
    for entry in entries:
        try:
            told = sentence(entry, steps=steps)
        except (KeyError, TypeError, ValueError):
            told = str(entry)
        print(visible(told), flush=True)


def ending(path: Path, status: str) -> str:
    """How a run that does not go on stands, in a sentence."""
    if status == "done":
        summary = read_json(path / SUMMARY)
        return f"{path}: {summary['stop_reason']}: {summary['sentence']}"
    if status == DEAD:
        return f"{path}: its process is gone; the command that began the run goes on with it"
    reason = read_manifest(path)["attempts"][-1].get("reason")
    return f"{path}: {status}{f' ({reason})' if reason else ''}"
