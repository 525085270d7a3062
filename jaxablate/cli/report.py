"""Turn run folders, or an experiment's folder, into one self-contained HTML page and Markdown.

Every number comes from the folders. A run without results is named and kept out of the tables.
Training runs among the folders add what was trained: losses, stop reasons, what was recovered.
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
jaxablate report runs/tiny
jaxablate report runs/base runs/sft runs/sft-eval --compare --out sft
jaxablate report runs/base runs/tuned --compare --title "Tuned against base" --out tuned
jaxablate report runs/study --beside claims.yaml
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run or of an experiment"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="NAME",
        help="writes NAME.html and NAME.md (default, for one folder: in it, as report)",
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
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="FILE",
        help="YAML of published claims; the experiment's numbers are set beside theirs",
    )


def run(args: argparse.Namespace) -> int:
    """Write both files and print their paths."""
    written = write_report(
        args.runs,
        args.out,
        title=args.title,
        baseline=args.baseline,
        compare=args.compare,
        published=args.beside,
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
    published: Path | None = None,
) -> tuple[Path, Path]:
    """The page and its Markdown twin; returns their paths."""
    from jaxablate.reports.experiment import is_experiment
    from jaxablate.reports.experiment import write_report as write_experiment
    from jaxablate.reports.render import write_pages

    name = _stem(out) if out else None
    if any(is_experiment(folder) for folder in folders):
        if len(folders) > 1 or compare or baseline:
            raise UserError(
                "report: an experiment is reported alone, without --compare and --baseline; its "
                "experiment.json says what is compared"
            )
        return write_experiment(folders[0], name, title=title, published=published)
    if published:
        raise UserError("report: --beside needs the folder of an experiment, got that of a run")
    if compare and len(folders) < 2:
        raise UserError("report: --compare needs two or more runs, got 1")
    if out is None and len(folders) > 1:
        raise UserError(f"report: give --out for a report of {len(folders)} runs")
    rendered = _render_runs(folders, title=title, baseline=baseline, compare=compare)
    return write_pages(name or Path(folders[0]) / "report", *rendered)


def _render_runs(
    folders: Sequence[str | Path], *, title: str | None, baseline: str | None, compare: bool
) -> tuple[str, str]:
    """Page and Markdown of run folders; finetuning runs among them tell what was trained."""
    from jaxablate.reports.build import build_view
    from jaxablate.reports.finetune import finetuned_from, load_finetune
    from jaxablate.reports.load import load_run
    from jaxablate.reports.overview import build_overview
    from jaxablate.reports.render import experiment_html, experiment_markdown, html, markdown
    from jaxablate.reports.study import study_of
    from jaxablate.runs.folder import TRAINING, read_manifest

    trains = [Path(f).is_dir() and read_manifest(f)["kind"] in TRAINING for f in folders]
    trained = [load_finetune(f) for f, yes in zip(folders, trains, strict=True) if yes]
    runs = [load_run(f) for f, yes in zip(folders, trains, strict=True) if not yes]
    # What a finetuning run made is named by that run; it is no checkpoint of its own.
    others = [run for run in runs if not (trained and finetuned_from(run.manifest))]
    names = dict.fromkeys(
        Path(str(run.config.get("checkpoint") or run.config.get("name") or "?")).name
        for run in (*trained, *others)
    )
    if trained:
        how = "trained" if any(run.from_nothing for run in trained) else "finetuned"
        made = {run.path.name for run in trained}
        bases = [name for name in names if name not in made] or list(names)
        heading = title or f"{', '.join(bases)} {how} under attention masks"
        study = study_of(runs, trained, title=heading, baseline=baseline)
        overview = build_overview(study)
        return experiment_html(overview), experiment_markdown(overview)
    heading = title or f"{', '.join(names)} under attention masks"
    view = build_view(runs, title=heading, baseline=baseline, compare=compare)
    return html(view), markdown(view)


def _stem(out: Path) -> Path:
    return out.with_suffix("") if out.suffix in (".html", ".md") else out
