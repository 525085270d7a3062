"""Finetune once for each value of a setting, and print what each value reached.

CONFIG is a YAML file of finetuning settings, as `jaxablate finetune` takes it. Each value is a run
folder of its own; the same command skips what is done and continues what was stopped.
"""

import argparse
from pathlib import Path
from typing import Any

from jaxablate.cli.parser import Parser
from jaxablate.cli.terminal import print_table
from jaxablate.core.errors import UserError
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate sweep sft.yaml --over schedule.peak=1e-5,2e-5,5e-5
jaxablate sweep sft.yaml --over seed=0,1,2 --set steps=300 --out runs/seeds
jaxablate sweep sft.yaml --over mask=causal,prefix_lm --list
"""

STAGE = "sweep"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", metavar="CONFIG", help="YAML file of finetuning settings")
    parser.add_argument(
        "--over",
        required=True,
        metavar="KEY=VALUES",
        help="a setting and its values, separated by commas",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; repeatable"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the sweep (default: runs/sweep-CONFIG)"
    )
    parser.add_argument("--list", action="store_true", help="print the table of runs and stop")


def run(args: argparse.Namespace) -> int:
    """Run what is not done, and print the table."""
    from jaxablate.cli.run import run_plan, show_plan
    from jaxablate.core.settings import read_settings
    from jaxablate.experiments.plan import make_plan
    from jaxablate.runs.folder import clean

    name = f"sweep-{clean(Path(args.config).stem)}"
    settings = as_experiment(read_settings([args.config], args.set), args.over, name)
    plan = make_plan(settings, args.out)
    show_plan(plan, None)
    if args.list:
        return 0
    outcome = run_plan(plan)
    show(plan)
    print(f"report: {visible(outcome.page)} (and {visible(outcome.text)})")
    return 0


def as_experiment(settings: Any, over: str, name: str) -> Any:
    """Finetuning settings as an experiment of one sweep."""
    from jaxablate.core.settings import Settings, parse_yaml

    key, equals, text = over.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--over reads KEY=VALUE,VALUE,..., got {over!r}")
    if "checkpoint" not in settings.values:
        raise UserError("a sweep needs a checkpoint, as in --set checkpoint=Qwen/Qwen3-0.6B")
    values = parse_yaml(f"values: [{text}]", f"--over {over!r}").values["values"]
    given, where = settings.values, settings.provenance
    told = f"--over {over!r}"
    sources = {f"finetune.{k}": v for k, v in where.items() if k != "checkpoint"}
    sources |= {"name": told, "checkpoint": where["checkpoint"]}
    sweep = {"kind": "sweep", "over": key.strip(), "values": values}
    written = {
        "name": name,
        "checkpoint": given["checkpoint"],
        "finetune": {k: v for k, v in given.items() if k != "checkpoint"},
        "stages": {STAGE: sweep},
    }
    return Settings(written, sources | {f"stages.{STAGE}.{k}": told for k in sweep})


def show(plan: Any) -> None:
    """Print a line for each value: how far it came, and its held-out losses."""
    from jaxablate.experiments.runner import read_summary

    rows = []
    for job in plan.jobs():
        told = read_summary(job)
        best, final = told["best"], told["final"]["evals"].get(told["eval_masks"][0])
        rows.append(
            (
                job.sweep["value"],
                f"{told['steps_done']}/{told['steps_planned']}",
                f"{final['loss']:.4f}" if final else "-",
                f"{best['loss']:.4f} (step {best['step']})" if best else "-",
                told["stop_reason"],
            )
        )
    setting = plan.jobs()[0].sweep["setting"]
    print_table((setting, "steps", "final held-out loss", "best held-out loss", "ended"), rows)
