"""The whole path on a tiny model: make, convert, evaluate under three masks, report.

The model is made on the spot from random numbers. It knows nothing: its scores are chance, up to
luck and the lengths of the answers. What the demo shows is that every part works here. It needs no
network and no accelerator.
"""

import argparse
from pathlib import Path

from jaxablate.cli.parser import Parser, whole
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate demo
jaxablate demo --out runs/demo --seed 1
"""

MASKS = ("causal", "prefix_lm", "full_bidirectional")
TASKS = ("hellaswag", "piqa", "arc_easy", "arc_challenge", "winogrande")


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder (default runs/demo)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of the weights (default 0)")


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, and say where everything is."""
    from jaxablate.checkpoints.store import is_stored
    from jaxablate.cli.compile_cache import use_compile_cache
    from jaxablate.cli.convert import convert
    from jaxablate.cli.eval import show
    from jaxablate.cli.report import write_report
    from jaxablate.evaluation.config import EvalConfig
    from jaxablate.evaluation.runner import run as evaluate
    from jaxablate.experiments.tiny import write_tiny_model

    use_compile_cache()
    model, converted = args.out / f"model-{args.seed}", args.out / f"converted-{args.seed}"
    if not (model / "config.json").exists():
        write_tiny_model(model, seed=args.seed)
    print(
        "1. a tiny Qwen3 with RANDOM weights; its scores are chance, up to luck and the lengths of "
        f"answers: {visible(model)}"
    )
    if not is_stored(converted):
        convert(model, converted, to="jaxablate", dtype=None)
    print(f"2. converted, every file with a digest: {visible(converted)}")
    config = EvalConfig(
        checkpoint=str(converted),
        tasks=TASKS,
        masks=MASKS,
        data="samples",
        allow_leaky=True,
        out=str(args.out / f"run-{args.seed}"),
    )
    outcome = evaluate(config)
    print(f"3. evaluated on bundled sample rows under {len(MASKS)} masks: {visible(outcome.path)}")
    show(outcome.metrics)
    page, text = write_report(
        [outcome.path],
        args.out / f"report-{args.seed}",
        title="Demo: random weights under three masks",
    )
    print(f"4. report: {visible(page)} (and {visible(text)})")
    return 0
