"""List the runs in a folder and below, the newest last: how far each is and what it reached.

A finetuning that a rule ended is "stopped: <reason>". A run whose manifest says running but whose
process is gone is "dead": the command that began it goes on with it. Progress is steps of a
finetuning, masks of an evaluation.
"""

import argparse
import json
import time
from pathlib import Path

from jaxablate.cli.parser import Parser
from jaxablate.cli.terminal import print_table, say
from jaxablate.runs.listing import RunView, list_runs

EXAMPLES = """
jaxablate runs
jaxablate runs runs/tiny
jaxablate runs runs --json
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "root", nargs="?", type=Path, default=Path("runs"), help="folder of runs (default runs)"
    )
    parser.add_argument("--json", action="store_true", help="a JSON list in place of the table")


def run(args: argparse.Namespace) -> int:
    """Print one line a run."""
    runs, now = list_runs(args.root), time.time()
    if args.json:
        print(json.dumps([as_json(run, now) for run in runs], indent=1, ensure_ascii=False))
    elif runs:
        header = ("run", "kind", "status", "progress", "result", "age")
        print_table(header, [row(run, args.root, now) for run in runs], num_text=3)
    else:
        say(f"{args.root}: has no runs")
    return 0


def row(run: RunView, root: Path, now: float) -> tuple[str, ...]:
    """One run as a line of the table; its folder stands for it, since ids may repeat."""
    folder = str(run.path.relative_to(root)) if run.path != root else str(root)
    progress = f"{run.done}/{run.planned}" if run.planned is not None else ""
    result = f"{run.result[1]:.4f} {run.result[0]}" if run.result else ""
    return folder, run.kind, run.status, progress, result, age(now - run.created, run)


def as_json(run: RunView, now: float) -> dict[str, object]:
    """One run as plain values; a loss that is no number is text."""
    name, value = run.result or (None, None)
    return {
        "path": str(run.path),
        "id": run.id,
        "kind": run.kind,
        "status": run.status,
        "done": run.done,
        "planned": run.planned,
        "result": None if value is None else {"name": name, "value": _plain(value)},
        "age_s": round(now - run.created) if run.created else None,
    }


def age(seconds: float, run: RunView) -> str:
    """How long ago, in the largest whole unit; empty where the start is not known."""
    if not run.created:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _plain(value: float) -> float | str:
    return value if value - value == 0 else str(value)
