"""Measure on a checkpoint what a mask lets through: change later tokens, look at earlier logits.

`leakage` needs no data: it runs random token ids through the compiled forward pass and the cache.
A mask leaks when a scored position's logits change with its own target or what follows.
"""

import argparse
import json
from typing import Any

from jaxablate.cli.parser import Parser, one_of, split_list, whole
from jaxablate.cli.terminal import bars, print_table

EXAMPLES = """
jaxablate probe leakage qwen3-0.6b --mask prefix_lm
jaxablate probe leakage qwen3-0.6b --mask causal,prefix_lm,full_bidirectional
jaxablate probe leakage qwen3-0.6b --mask "layers(0-3) & prefix_lm | causal" --json
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("probe", type=one_of("probe", ("leakage",)), help="leakage")
    parser.add_argument("checkpoint", help="folder or hub id")
    parser.add_argument(
        "--mask",
        action="append",
        required=True,
        metavar="MASKS",
        help="names or algebra, separated by commas outside parentheses; may be repeated",
    )
    parser.add_argument("--rows", type=whole(1), default=4, help="random rows (default 4)")
    parser.add_argument("--prompt", type=whole(2), default=12, help="prompt tokens (default 12)")
    parser.add_argument("--response", type=whole(1), default=8, help="response tokens (default 8)")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the token ids (default 0)")
    parser.add_argument("--dtype", default="float32", help="type of the weights (default float32)")
    parser.add_argument("--revision", help="commit, branch or tag of a hub id")
    parser.add_argument("--json", action="store_true", help="a JSON list in place of the table")


def run(args: argparse.Namespace) -> int:
    """Print one line for each mask."""
    from jaxablate.masks.parse import parse

    names = [text for group in args.mask for text in split_list(group)]
    found = measure_all(args, [parse(name) for name in names])
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    print_table(
        ("mask", "verdict", "future change", "prompt change", "loss, one pass", "loss, decoded"),
        [
            (
                name,
                "LEAKY" if result["leaks"] else "clean",
                f"{result['future_change']:.3g}",
                f"{result['prompt_change']:.3g}",
                f"{result['teacher_forced_loss']:.4f}",
                f"{result['decode_loss']:.4f}",
            )
            for name, result in zip(names, found, strict=True)
        ],
        num_text=2,
    )
    print(
        "future change: largest change of a scored logit when its target and later tokens change\n"
        "prompt change: the same at the first prompt position when the last prompt token changes;\n"
        "               0 where the prompt is causal\n"
        "loss: nats per response token, all at once and one by one; they differ where a mask leaks"
    )
    return 0


def measure_all(args: argparse.Namespace, masks: list[Any]) -> list[dict[str, Any]]:
    """The probe's result for each mask, with one loading of the weights."""
    from jaxablate.cli.compile_cache import use_compile_cache
    from jaxablate.language_model import load
    from jaxablate.probes.leakage import measure

    use_compile_cache()
    with bars():
        lm = load(args.checkpoint, dtype=args.dtype, revision=args.revision)
    return [
        measure(
            lm,
            mask,
            num_rows=args.rows,
            prompt_length=args.prompt,
            response_length=args.response,
            seed=args.seed,
        )
        for mask in masks
    ]
