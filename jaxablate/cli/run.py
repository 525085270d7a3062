"""Run an experiment: stages that evaluate and finetune one checkpoint, and a report of them all.

What is done is skipped, what was stopped goes on, and a stage whose settings changed is done anew
in a folder of its own. The table says so before anything runs. Settings come from the file, then
--set; all of them are checked before the first stage.
"""

import argparse
from collections.abc import Iterable, Mapping
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
    show_matrix(plan)
    print(f"report: {visible(outcome.page)} (and {visible(outcome.text)})")
    return 0


def run_plan(plan: Any, stages: list[str] | None = None) -> Any:
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


def show_matrix(plan: Any) -> None:
    """Print macro accuracies, a line for each model and a column for each mask."""
    cells = dict(macros(plan))
    if not cells:
        return
    models = list(dict.fromkeys(model for model, _ in cells))
    masks = list(dict.fromkeys(mask for _, mask in cells))
    rows = [(model, *(cells.get((model, mask), "") for mask in masks)) for model in models]
    print_table(("model", *masks), rows)


def macros(plan: Any) -> Iterable[tuple[tuple[str, str], str]]:
    """(model, mask) and mean accuracy over tasks, of every finished evaluation without a dose."""
    from jaxablate.core.files import read_json

    for job in plan.jobs():
        path = job.path / "metrics.json"
        if job.kind == "evaluate" and job.dose is None and path.exists():
            for result in read_json(path)["results"]:
                yield (job.model, result["name"]), _shown(result)


def _shown(result: Mapping[str, Any]) -> str:
    macro = result["macro"]["primary"]
    leaky = " LEAKY" if result["leaky"] else ""
    return f"{macro['value']:.3f} [{macro['low']:.3f}, {macro['high']:.3f}]{leaky}"
