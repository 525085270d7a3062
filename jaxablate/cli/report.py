"""Turn run folders into one self-contained HTML page and its Markdown twin.

Every number comes from the folders. A run that was stopped is named and kept out of the tables.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxablate.cli.parser import Parser
from jaxablate.core.errors import UserError
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate report runs/qwen
jaxablate report runs/qwen --baseline prefix_lm --out qwen-report
jaxablate report runs/qwen runs/llama --out both
jaxablate report runs/base runs/tuned --compare --title "Tuned against base" --out tuned
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of an evaluation")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="NAME",
        help="writes NAME.html and NAME.md (default, for one run: RUN/report)",
    )
    parser.add_argument("--title", help="heading (default: the checkpoints)")
    parser.add_argument(
        "--baseline",
        metavar="MASK",
        help="mask that others are compared with (default: each run's first that is not leaky)",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="compare across runs, with the baseline of the first one",
    )


def run(args: argparse.Namespace) -> int:
    """Write both files and print their paths."""
    written = write_report(
        args.runs, args.out, title=args.title, baseline=args.baseline, compare=args.compare
    )
    for path in written:
        print(visible(path))
    return 0


def write_report(
    folders: Sequence[str | Path],
    out: Path | None,
    *,
    title: str | None = None,
    baseline: str | None = None,
    compare: bool = False,
) -> tuple[Path, Path]:
    """The page and its Markdown twin; returns their paths."""
    from jaxablate.core.files import write_atomic
    from jaxablate.reports.build import build_view
    from jaxablate.reports.load import load_run
    from jaxablate.reports.render import html, markdown

    if compare and len(folders) < 2:
        raise UserError("report: --compare needs two or more runs, got 1")
    if out is None and len(folders) > 1:
        raise UserError(f"report: give --out for a report of {len(folders)} runs")
    runs = [load_run(folder) for folder in folders]
    names = dict.fromkeys(Path(str(run.config.get("checkpoint", "?"))).name for run in runs)
    view = build_view(
        runs,
        title=title or f"{', '.join(names)} under attention masks",
        baseline=baseline,
        compare=compare,
    )
    name = out or Path(folders[0]) / "report"
    if name.suffix in (".html", ".md"):
        name = name.with_suffix("")
    page, text = name.with_name(f"{name.name}.html"), name.with_name(f"{name.name}.md")
    rendered = html(view), markdown(view)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(page, rendered[0])
    write_atomic(text, rendered[1])
    return page, text
