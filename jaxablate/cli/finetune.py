"""Finetune a checkpoint under a mask, into a run folder that can be stopped and continued.

Settings come from YAML files, then flags, then --set; the later wins. The same command continues a
run that was stopped or killed, bit for bit, and does nothing for one that is done. A training mask
under which a token sees its own target is refused unless allow_leaky is set.

The run's folder is a checkpoint: `jaxablate eval FOLDER` scores it, `jaxablate convert FOLDER OUT
--to hf` exports it.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from jaxablate.cli.parser import Parser, whole
from jaxablate.core.errors import UserError
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate finetune configs/finetune/tiny.yaml --out runs/tuned
jaxablate finetune sft.yaml --mask prefix_lm --steps 1200 --out runs/prefix
jaxablate finetune sft.yaml --set schedule.peak=1e-5 --set lora.rank=16 --set lora.alpha=32
jaxablate finetune sft.yaml --set data.folder=my/data --set data.name=notes --print-config
jaxablate finetune sft.yaml --out runs/two --coordinator 10.0.0.1:9911 --processes 2 --process 0
"""

# A flag that is one setting: (setting, is a whole number, placeholder, help).
Value = tuple[str, bool, str, str]
VALUES: tuple[Value, ...] = (
    ("checkpoint", False, "MODEL", "folder, hub id, or the folder of a finetuning run"),
    ("mask", False, "MASK", "name or algebra of the training mask (default causal)"),
    ("steps", True, "N", "optimiser steps"),
    ("rows", True, "N", "rows of a step, over all devices (default 16)"),
    ("seed", True, "N", "of data order, LoRA, dropout, rounding (default 0)"),
    ("mesh", False, "AXES", "devices, as in fsdp=2,tensor=2 (default: one)"),
    ("out", False, "FOLDER", "the run's folder (default: a name made under runs/)"),
)


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_setting_arguments(parser, VALUES)
    parser.add_argument(
        "--allow-leaky", action="store_true", help="train under a leaky mask; every number says so"
    )
    parser.add_argument("--json", action="store_true", help="the summary as JSON, no display")
    add_process_arguments(parser)


def add_setting_arguments(parser: Parser, values: Sequence[Value]) -> None:
    """Arguments that give settings: files, a flag for each of `values`, --set."""
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="YAML settings; later wins")
    for setting, _, placeholder, text in values:
        parser.add_argument(f"--{setting}", metavar=placeholder, help=text)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; repeatable"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings as YAML and stop"
    )


def add_process_arguments(parser: Parser) -> None:
    """Arguments of a program of several processes."""
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--processes", type=whole(1), metavar="N", help="how many there are")
    parser.add_argument("--process", type=whole(0), metavar="I", help="which one this is, from 0")


def run(args: argparse.Namespace) -> int:
    """Train, and say where the run lies and how it ended."""
    from jaxablate.core.config import build, provenance
    from jaxablate.core.settings import Settings, merge
    from jaxablate.training.config import FinetuneConfig

    settings = read_arguments(args, VALUES)
    if args.allow_leaky:
        flag = Settings({"allow_leaky": True}, {"allow_leaky": "--allow-leaky"})
        settings = merge(settings, flag)
    config = build(FinetuneConfig, settings)
    if args.print_config:
        return print_settings(config)
    from jaxablate.cli.compile_cache import use_compile_cache
    from jaxablate.cli.terminal import bars
    from jaxablate.training.finetune import finetune

    join_processes(args)
    use_compile_cache()
    with bars():
        outcome = finetune(
            config,
            provenance=provenance(config, settings),
            observers=observers(config.trackers, quiet=args.json),
        )
    return tell(outcome, as_json=args.json)


def print_settings(config: Any) -> int:
    """Print every setting of a config as YAML; returns the exit code."""
    import yaml

    from jaxablate.core.config import resolved

    print(yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True), end="")
    return 0


def tell(outcome: Any, *, as_json: bool) -> int:
    """Print how a training ended, and where it lies; returns the exit code."""
    if as_json:
        print(json.dumps(outcome.summary, indent=1, ensure_ascii=False))
    else:
        show(outcome.summary)
        print(f"run folder: {visible(outcome.path)}")
    return 1 if outcome.summary["stop_reason"] == "non_finite" else 0


def read_arguments(args: argparse.Namespace, values: Sequence[Value]) -> Any:
    """Settings of the files, the flags and --set, each value with its origin."""
    from jaxablate.core.settings import Settings, merge, read_override, read_settings

    settings = read_settings(args.configs)
    for setting, is_count, _, _ in values:
        text = getattr(args, setting)
        if text is None:
            continue
        value = int(text) if is_count and text.isascii() and text.isdigit() else text
        settings = merge(settings, Settings({setting: value}, {setting: f"--{setting}"}))
    for text in args.set:
        settings = merge(settings, read_override(text))
    return settings


def join_processes(args: argparse.Namespace) -> None:
    """Make this process one of several, where the arguments say so."""
    given = (args.coordinator, args.processes, args.process)
    if given == (None, None, None):
        return
    if args.coordinator is None or args.processes is None or args.process is None:
        raise UserError("--coordinator, --processes and --process are given together")
    if args.process >= args.processes:
        raise UserError(f"--process counts from 0 to {args.processes - 1}, got {args.process}")
    from jaxablate.core.processes import start

    start(args.coordinator, args.processes, args.process)


def observers(trackers: Sequence[str], *, quiet: bool) -> list[Any]:
    """Who is told of the metrics; only the first of several processes shows them."""
    from jaxablate.cli.run_log import RunLog
    from jaxablate.cli.training_display import TrainingDisplay
    from jaxablate.core.processes import is_first
    from jaxablate.integrations.trackers import make_tracker

    if not is_first():
        return []
    shown = [] if quiet else [TrainingDisplay()]
    return [*shown, RunLog(), *(make_tracker(name) for name in trackers)]


def show(summary: dict[str, Any]) -> None:
    """Print how the run ended, and its held-out losses."""
    from jaxablate.cli.terminal import print_table

    done, planned = summary["steps_done"], summary["steps_planned"]
    rows = [
        (
            name + (" LEAKY" if entry["leaky"] else ""),
            entry["targets"],
            f"{entry['loss']:.4f}",
            f"{entry['decode_loss']:.4f}" if "decode_loss" in entry else "",
        )
        for name, entry in summary["final"]["evals"].items()
    ]
    print_table(("held-out loss under", "tokens", "nats/token", "decoded"), rows)
    print(f"{done} of {planned} steps, trained under {visible(summary['mask'])}")
    if summary["stopped"]:
        print(f"stopped early ({summary['stop_reason']}): {visible(summary['sentence'])}")
    for alarm in summary["alarms"]:
        print(f"alarm at step {alarm['step']}: {visible(alarm['sentence'])}")
