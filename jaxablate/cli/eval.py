"""Score multiple-choice tasks under one or more masks, into a run folder.

Settings come from --config files, then flags, then --set; the later wins. The same command
continues a run that was stopped and does nothing for one that is done. A mask under which an
answer would see itself is refused unless --allow-leaky is given.
"""

import argparse
import json
from typing import Any

from jaxablate.cli.parser import Parser, split_list
from jaxablate.cli.terminal import bars, print_table
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate eval Qwen/Qwen3-0.6B --tasks piqa,arc_easy --masks causal,prefix_lm
jaxablate eval qwen3-0.6b --tasks hellaswag --limit 500 --dtype bfloat16 --out runs/hellaswag
jaxablate eval qwen3-0.6b --tasks piqa --masks "layers(0-13) & prefix_lm | causal" --data my/rows
jaxablate eval --config configs/eval/three_masks.yaml --set checkpoint=qwen3-0.6b
jaxablate eval qwen3-0.6b --tasks piqa --set subset=random --set limit=200 --print-config
"""

# Flags that are one setting each: (setting, placeholder, help).
VALUES = (
    ("variant", "NAME", "standard (as lm-evaluation-harness asks, default) or compat"),
    ("split", "NAME", "split of every task (default validation)"),
    ("limit", "N", "rows of each task; 0 takes all (default)"),
    ("dtype", "TYPE", "float32 (default), bfloat16 or float16"),
    ("bos", "POLICY", "auto (default), yes or no"),
    (
        "data",
        "WHERE",
        "hub (default), samples or benchmarks (bundled rows), or a folder of <task>/<split>.jsonl",
    ),
    ("rows_per_batch", "N", "rows of one program call; 0 lets the platform decide (default)"),
    ("mesh", "AXES", "devices, as in fsdp=2,tensor=2 (default: one)"),
    ("out", "FOLDER", "the run's folder (default: a name made under runs/)"),
)


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("checkpoint", nargs="?", help="folder or hub id")
    parser.add_argument("--tasks", action="append", metavar="NAMES", help="separated by commas")
    parser.add_argument(
        "--masks",
        action="append",
        metavar="MASKS",
        help="names or algebra, separated by commas outside parentheses; may be repeated "
        "(default causal); the first is the baseline of the report",
    )
    for setting, placeholder, text in VALUES:
        parser.add_argument(_flag(setting), metavar=placeholder, help=text)
    parser.add_argument(
        "--allow-leaky", action="store_true", help="score leaky masks too; every number says so"
    )
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="YAML settings; repeatable"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; repeatable"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings as YAML and stop"
    )
    parser.add_argument("--json", action="store_true", help="the metrics as JSON, no table")


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print a table of accuracies and where the run lies."""
    from jaxablate.core.config import build, provenance, resolved
    from jaxablate.evaluation.config import EvalConfig

    settings = read_arguments(args)
    config = build(EvalConfig, settings)
    if args.print_config:
        import yaml

        print(yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True), end="")
        return 0
    from jaxablate.cli.compile_cache import use_compile_cache
    from jaxablate.evaluation.runner import evaluate, load_model

    use_compile_cache()
    with bars():
        lm = load_model(config)
    outcome = evaluate(lm, config, provenance=provenance(config, settings))
    if args.json:
        print(json.dumps(outcome.metrics, indent=1, ensure_ascii=False))
    else:
        show(outcome.metrics)
        print(f"run folder: {visible(outcome.path)}")
    return 0


def read_arguments(args: argparse.Namespace) -> Any:
    """Settings of the files, the flags and --set, each value with its origin."""
    from jaxablate.core.settings import Settings, merge, read_override, read_settings

    given: dict[str, tuple[Any, str]] = {}
    if args.checkpoint is not None:
        given["checkpoint"] = (args.checkpoint, "the command line")
    for name in ("tasks", "masks"):
        if getattr(args, name) is not None:
            words = [word for group in getattr(args, name) for word in split_list(group)]
            given[name] = (words, f"--{name}")
    flags = Settings(
        {name: value for name, (value, _) in given.items()},
        {name: origin for name, (_, origin) in given.items()},
    )
    settings = merge(read_settings(args.config), flags)
    for setting, _, _ in VALUES:
        if getattr(args, setting) is not None:
            settings = merge(settings, _one(setting, getattr(args, setting)))
    if args.allow_leaky:
        settings = merge(
            settings, Settings({"allow_leaky": True}, {"allow_leaky": "--allow-leaky"})
        )
    for text in args.set:
        settings = merge(settings, read_override(text))
    return settings


def _one(setting: str, text: str) -> Any:
    """A flag's text as one setting; counts are whole numbers, everything else is text as given."""
    from jaxablate.core.settings import Settings

    is_count = setting in ("limit", "rows_per_batch")
    value = int(text) if is_count and text.isascii() and text.lstrip("+-").isdigit() else text
    return Settings({setting: value}, {setting: _flag(setting)})


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def show(metrics: dict[str, Any]) -> None:
    """Print accuracies with their intervals, one line for each task under each mask."""
    rows = []
    for result in metrics["results"]:
        stamp = " LEAKY" if result["leaky"] else ""
        for task in result["tasks"]:
            measure = task["measures"][task["accuracy_by"]]
            rows.append(
                _row(task["task"], result["name"] + stamp, measure, task["chance_per_item"])
            )
        macro = result["macro"]["primary"]
        if len(result["tasks"]) > 1:
            rows.append(_row("all tasks", result["name"] + stamp, macro, macro["chance"]))
    header = ("task", "mask", "n", "accuracy", "95 % interval", "chance")
    print_table(header, rows, num_text=2)


def _row(task: str, mask: str, measure: dict[str, Any], chance: float) -> tuple[object, ...]:
    interval = f"[{measure['low']:.3f}, {measure['high']:.3f}]"
    return task, mask, measure.get("n", ""), f"{measure['value']:.3f}", interval, f"{chance:.3f}"
