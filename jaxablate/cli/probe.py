"""Measure on a checkpoint what a mask lets through; random token ids are all it needs.

`leakage` changes later tokens and looks at earlier logits, in the compiled forward pass and through
the cache. `flow` takes the gradient of each position's loss with respect to each input, compares it
with what the mask alone lets through, and draws both with --out. A mask leaks when a scored
position's logits or loss change with its own target or what follows.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxablate.cli.parser import Parser, one_of, split_list, whole
from jaxablate.cli.terminal import bars, print_table
from jaxablate.core.errors import UserError

if TYPE_CHECKING:
    from jaxablate.probes.flow import Flow

EXAMPLES = """
jaxablate probe leakage qwen3-0.6b --mask prefix_lm
jaxablate probe leakage qwen3-0.6b --mask causal,prefix_lm,full_bidirectional
jaxablate probe leakage qwen3-0.6b --mask "layers(0-3) & prefix_lm | causal" --json
jaxablate probe flow ref-6m --mask causal,prefix_lm,full_bidirectional --out flow.png
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("probe", type=one_of("probe", ("leakage", "flow")), help="leakage or flow")
    parser.add_argument("checkpoint", help="folder or hub id")
    parser.add_argument(
        "--mask",
        action="append",
        required=True,
        metavar="MASKS",
        help="names or algebra, separated by commas outside parentheses; may be repeated",
    )
    parser.add_argument(
        "--rows", type=whole(1), default=4, help="random rows (default 4; flow measures one)"
    )
    parser.add_argument("--prompt", type=whole(2), default=12, help="prompt tokens (default 12)")
    parser.add_argument("--response", type=whole(1), default=8, help="response tokens (default 8)")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the token ids (default 0)")
    parser.add_argument("--dtype", default="float32", help="type of the weights (default float32)")
    parser.add_argument("--revision", help="commit, branch or tag of a hub id")
    parser.add_argument("--out", type=Path, metavar="FILE", help="flow: draw it, a .png file")
    parser.add_argument("--json", action="store_true", help="a JSON list in place of the table")


def run(args: argparse.Namespace) -> int:
    """Print one line for each mask."""
    if args.out and (args.probe != "flow" or args.out.suffix.lower() != ".png"):
        raise UserError(f"--out draws the flow as a .png file, got {args.probe} {str(args.out)!r}")
    names = [text for group in args.mask for text in split_list(group)]
    found = (run_flow if args.probe == "flow" else run_leakage)(args, names)
    if args.json:
        print(json.dumps(found, indent=1))
    return 0


def run_leakage(args: argparse.Namespace, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the leakage probe finds under each mask, as a table unless JSON is wanted."""
    from jaxablate.masks.parse import parse
    from jaxablate.probes.leakage import measure

    masks = [parse(name) for name in names]
    lm = load_model(args)
    found = [
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
    if not args.json:
        show_leakage(names, found)
    return found


def show_leakage(names: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    """Print the table and what its columns are."""
    print_table(
        ("mask", "verdict", "future change", "prompt change", "loss, one pass", "loss, decoded"),
        [
            (
                name,
                verdict(result["leaks"]),
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


def run_flow(args: argparse.Namespace, names: Sequence[str]) -> list[dict[str, Any]]:
    """What flows under each mask, as a table unless JSON is wanted, and as a picture."""
    import numpy as np

    from jaxablate.masks.parse import parse
    from jaxablate.probes.flow import measure

    masks = [parse(name) for name in names]
    lm = load_model(args)
    random = np.random.default_rng(args.seed)
    tokens = random.integers(0, lm.config.vocab_size, args.prompt + args.response).tolist()
    flows = [measure(lm, tokens, mask, prompt_length=args.prompt) for mask in masks]
    if not args.json:
        show_flows(names, flows)
    if args.out:
        from jaxablate.probes.picture import flow_picture, token_labels

        flow_picture(flows, token_labels(lm, tokens), titles=names).savefig(args.out)
    return [flow.to_json() for flow in flows]


def show_flows(names: Sequence[str], flows: Sequence["Flow"]) -> None:
    """Print the table and what its columns are."""
    print_table(
        ("mask", "verdict", "leaking positions", "reached", "reachable"),
        [
            (
                name,
                verdict(bool(flow.leaks)),
                f"{len(flow.leaks)} of {flow.num_scored}",
                int((flow.gradient > 0).sum()),
                int(flow.reachable.sum()),
            )
            for name, flow in zip(names, flows, strict=True)
        ],
        num_text=2,
    )
    print(
        "leaking positions: scored positions whose loss moves with the token that they predict\n"
        "reached: pairs (position, input) with a gradient, measured\n"
        "reachable: pairs that the mask alone lets through"
    )


def verdict(leaks: bool) -> str:
    """The word that stands in a table."""
    return "LEAKY" if leaks else "clean"


def load_model(args: argparse.Namespace) -> Any:
    """The checkpoint's language model."""
    from jaxablate.cli.compile_cache import use_compile_cache
    from jaxablate.language_model import load

    use_compile_cache()
    with bars():
        return load(args.checkpoint, dtype=args.dtype, revision=args.revision)
