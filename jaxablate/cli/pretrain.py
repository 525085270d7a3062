"""Train a decoder from nothing on text: tokenizer, tokens, weights, into a run folder.

Text is files (.txt, .jsonl; .gz or .xz), the training splits of benchmarks, or made by rule.
Rows that an evaluation will ask are cut out of it: data.protect names them. Settings come from YAML
files, then flags, then --set; the later wins. The same command continues a run that was stopped or
killed, bit for bit, and does nothing for one that is done.

The run's folder is a checkpoint: `jaxablate eval FOLDER` scores it, `jaxablate convert FOLDER OUT
--to hf` exports it, and a finetuning goes on from it.
"""

import argparse

from jaxablate.cli.finetune import (
    Value,
    add_process_arguments,
    add_setting_arguments,
    join_processes,
    observers,
    print_settings,
    read_arguments,
    tell,
)
from jaxablate.cli.parser import Parser
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate pretrain configs/pretrain/own_text.yaml --text "notes/*.txt"
jaxablate pretrain configs/pretrain/own_text.yaml --text "*.jsonl.xz" --steps 5000
jaxablate pretrain configs/pretrain/own_text.yaml --rows 64 --set shape.layers=8
jaxablate pretrain configs/pretrain/own_text.yaml --print-config
"""

VALUES: tuple[Value, ...] = (
    ("name", False, "NAME", "of the model, for folders"),
    ("steps", True, "N", "optimiser steps"),
    ("rows", True, "N", "rows of a step, over all devices (default 16)"),
    ("seed", True, "N", "of weights, data order, rounding (default 0)"),
    ("mesh", False, "AXES", "devices, as in fsdp=2,tensor=2 (default: one)"),
    ("out", False, "FOLDER", "the run's folder (default: a name made under runs/)"),
)


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_setting_arguments(parser, VALUES)
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="GLOB",
        help="files of text, in place of the config's sources; repeatable",
    )
    parser.add_argument(
        "--prepare", action="store_true", help="make tokenizer, tokens and weights, then stop"
    )
    parser.add_argument("--json", action="store_true", help="the summary as JSON, no display")
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prepare, train, and say where the run lies and how it ended."""
    from jaxablate.core.config import build, provenance
    from jaxablate.core.settings import Settings, merge
    from jaxablate.training.pretrain import PretrainConfig, prepare, pretrain

    settings = read_arguments(args, VALUES)
    if args.text:
        source = {"kind": "files", "name": "text", "paths": args.text}
        given = Settings({"data": {"sources": [source]}}, {"data.sources": "--text"})
        settings = merge(settings, given)
    config = build(PretrainConfig, settings)
    if args.print_config:
        return print_settings(config)
    from jaxablate.cli.compile_cache import use_compile_cache
    from jaxablate.cli.terminal import bars

    if args.prepare:
        with bars():
            prepare(config)
        print(f"prepared: {visible(config.folder)}")
        return 0
    join_processes(args)
    use_compile_cache()
    with bars():
        outcome = pretrain(
            config,
            provenance=provenance(config, settings),
            observers=observers(config.trackers, quiet=args.json),
        )
    return tell(outcome, as_json=args.json)
