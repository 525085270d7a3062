"""Convert a checkpoint: Hugging Face folder or hub id to a verified jaxablate folder, or back.

A converted folder opens faster, and every load of it compares each file with a digest. The weights
keep their bits unless --dtype asks for another type. A finetuned model is named by its run's
folder; LoRA is merged into its weights, or written by itself with --to peft.
"""

import argparse
from pathlib import Path

from jaxablate.cli.parser import Parser, one_of
from jaxablate.cli.terminal import bars
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate convert Qwen/Qwen3-0.6B qwen3-0.6b
jaxablate convert Qwen/Qwen3-0.6B qwen3-0.6b --revision main --dtype float32
jaxablate convert qwen3-0.6b qwen3-0.6b-hf --to hf
jaxablate convert runs/20260101-finetune-0a1b2c finetuned-hf --to hf
jaxablate convert runs/20260101-finetune-0a1b2c adapter --to peft
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", help="folder or hub id")
    parser.add_argument("out", type=Path, help="folder to write; must be new or empty")
    parser.add_argument(
        "--to",
        type=one_of("format", ("jaxablate", "hf", "peft")),
        default="jaxablate",
        metavar="FORMAT",
        help="jaxablate (default); hf, which transformers loads; peft, the LoRA of a finetuning",
    )
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: as in the source)")
    parser.add_argument("--revision", help="commit, branch or tag of a hub id")


def run(args: argparse.Namespace) -> int:
    """Convert, and print where the weights are and what names them."""
    from jaxablate.checkpoints.convert import convert

    dtype = parse_dtype(args.dtype) if args.dtype is not None else None
    if args.to == "peft":
        return _write_adapter(args.source, args.out)
    with bars():
        source = convert(args.source, args.out, to=args.to, dtype=dtype, revision=args.revision)
    print(f"{visible(args.out)}: {args.to} format, from weights {source['weights'][:16]}")
    return 0


def _write_adapter(source: str, out: Path) -> int:
    """Write the LoRA of a finetuning as PEFT does, and say what it belongs to."""
    from jaxablate.checkpoints.finetuned import read_lora
    from jaxablate.checkpoints.peft import save_peft

    lora, config, base = read_lora(source)
    save_peft(lora, config, out, base_model=base)
    print(f"{visible(out)}: PEFT adapter of rank {lora.rank} for {visible(base)}")
    return 0
