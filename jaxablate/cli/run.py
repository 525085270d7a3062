"""Run an experiment: stages that evaluate and finetune one checkpoint, and a report of them all.

What is done is skipped, what was stopped goes on, and a stage whose settings changed is done anew
in a folder of its own. The table says so before anything runs. Settings come from the file, then
--set; all of them are checked before the first stage.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxablate.cli.parser import Parser, split_list
from jaxablate.cli.terminal import print_table, say
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate run configs/ablation/tiny.yaml
jaxablate run configs/ablation/qwen25_7b.yaml --list
jaxablate run configs/ablation/qwen25_7b.yaml --stages stage1,stage2
jaxablate run configs/ablation/qwen25_7b.yaml --set checkpoint=Qwen/Qwen3-0.6B --out runs/qwen3
jaxablate run configs/ablation/tiny.yaml --set finetune.steps=4 --print-config
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", metavar="CONFIG", help="YAML file of an experiment")
    parser.add_argument(
        "--stages", metavar="NAMES", help="only these, separated by commas, and what they need"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; repeatable"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the experiment (default: runs/NAME)"
    )
    parser.add_argument("--list", action="store_true", help="print the table of stages and stop")
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings as YAML and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Run what is not done, and say what came out and where everything is."""
    from jaxablate.core.settings import read_settings
    from jaxablate.experiments.plan import make_plan

    plan = make_plan(read_settings([args.config], args.set), args.out)
    if args.print_config:
        import yaml

        print(yaml.safe_dump(plan.resolved(), sort_keys=False, allow_unicode=True), end="")
        return 0
    stages = split_list(args.stages) if args.stages is not None else None
    show_plan(plan, stages)
    if args.list:
        return 0
    outcome = run_plan(plan, stages)
    if outcome.page:
        show_results(plan.root)
        print(f"report: {visible(outcome.page)} (and {visible(outcome.text)})")
    broken = broken_stages(plan, stages)
    for name, sentence in broken.items():
        say(f"{name}: {sentence}")
    return 1 if broken else 0


def broken_stages(plan: Any, stages: list[str] | None = None) -> dict[str, str]:
    """Finetunings, but those of a sweep, whose loss was no number in the end, and how it ended."""
    from jaxablate.core.files import read_json

    found = {}
    for job in plan.jobs(stages):
        if job.kind == "finetune" and not job.sweep:
            summary = read_json(job.path / "summary.json")
            if summary["stop_reason"] == "non_finite":
                found[job.name] = summary["sentence"]
    return found


def run_plan(
    plan: Any, stages: list[str] | None = None, *, say: Callable[[str], None] = say
) -> Any:
    """Run a plan with displays for this terminal."""
    from jaxablate.cli.compile_cache import use_compile_cache
    from jaxablate.cli.finetune import observers
    from jaxablate.experiments.job import Hooks
    from jaxablate.experiments.runner import run_experiment

    use_compile_cache()
    hooks = Hooks(say=say, observers=lambda trackers: observers(trackers, quiet=False))
    return run_experiment(plan, stages=stages, hooks=hooks)


def show_plan(plan: Any, stages: list[str] | None) -> None:
    """Print what there is of every stage, and what changed since it was done."""
    from jaxablate.experiments.runner import check

    jobs = plan.jobs(stages)
    states = check(plan, jobs)
    rows = [
        (job.name, job.kind, job.model or "-", job.masks or "-", states[job.name].word)
        for job in jobs
    ]
    print_table(("stage", "kind", "model", "masks", "state"), rows, num_text=5)
    for name, state in states.items():
        if state.word == "changed":
            print(f"{visible(name)}: {visible(state.sentence())}")


def show_results(root: Path) -> None:
    """Print macro accuracies, models by masks, and what became of the criteria."""
    from jaxablate.reports.experiment import load_experiment
    from jaxablate.reports.overview import build_overview

    view = build_overview(load_experiment(root))
    cells = {(one.condition.model, one.condition.mask): one for one in view.macro}
    if cells:
        masks = [column.mask for column in view.columns]
        header = ("accuracy of", *(f"{c.mask}{' LEAKY' * c.leaky}" for c in view.columns))
        models = list(dict.fromkeys(model for model, _ in cells))
        rows = [
            (m, *(_estimate(cells[m, k].accuracy) if (m, k) in cells else "" for k in masks))
            for m in models
        ]
        print_table(header, rows)
    if view.criteria:
        rows = [(c.name, c.wanted, _estimate(c.value), c.verdict) for c in view.criteria]
        print_table(("criterion", "wanted", "found", "verdict"), rows, num_text=4)


def _estimate(value: Any) -> str:
    """A value with its 95 % interval."""
    if value is None:
        return "-"
    ends = f" [{value.low:.3f}, {value.high:.3f}]" if value.low is not None else ""
    return f"{value.value:.3f}{ends}"
