"""Draw who may attend to whom: queries are lines, keys are columns, # is open."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxablate.cli.parser import Parser, whole
from jaxablate.core.errors import UserError
from jaxablate.core.text import visible

if TYPE_CHECKING:
    from jaxablate.masks.algebra import Mask

EXAMPLES = """
jaxablate mask prefix_lm
jaxablate mask "causal & window(3)" --layout "P6 R2"
jaxablate mask segment_bidirectional --layout "P2/1 P3/2 R2"
jaxablate mask prefix_lm --layout "P3 {R2|R1}" --png shared.png
jaxablate mask prefix_lm --kernels 1024
jaxablate mask --list
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("mask", nargs="?", help="name or algebra, as in 'causal | within(prompt)'")
    parser.add_argument(
        "--layout",
        default="P4 R3",
        metavar="SLOTS",
        help="the row to draw on: P prompt, R response, L latent, G gist, '.' padding, a number "
        "repeats, /2 is part 2, ';' the next packed example, {R2|R1} branches (default: P4 R3)",
    )
    parser.add_argument("--layer", type=whole(0), default=0, help="layer that is drawn (default 0)")
    parser.add_argument("--head", type=whole(0), default=0, help="head that is drawn (default 0)")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a picture as well")
    parser.add_argument(
        "--kernels",
        type=whole(1),
        metavar="LENGTH",
        help="show which attention kernel serves the mask at this length, and why others decline",
    )
    parser.add_argument("--list", action="store_true", help="list every atom and named mask")


def run(args: argparse.Namespace) -> int:
    """Print the drawing, and write the picture when asked."""
    from jaxablate.masks.draw import draw
    from jaxablate.masks.parse import names, parse

    if args.list:
        known = names()
        width = max(map(len, known))
        for name, line in known.items():
            print(f"{name:<{width}}  {visible(line)}")
        return 0
    if args.mask is None:
        raise UserError("mask: give a mask, or --list to see what there is")
    if args.png and args.png.suffix.lower() != ".png":
        raise UserError(f"--png writes a .png file, got {str(args.png)!r}")
    mask = parse(args.mask)
    drawing = draw(mask, args.layout, layer=args.layer, head=args.head)
    if args.png:
        from jaxablate.masks.picture import mask_picture

        mask_picture([mask], args.layout, layer=args.layer, head=args.head).savefig(args.png)
    print(f"{mask}\n\n{drawing}")
    if args.kernels:
        show_kernels(mask.at(args.layer, args.head), args.kernels)
    return 0


def show_kernels(mask: "Mask", length: int) -> None:
    """Print the kernel taken on an NVIDIA GPU and on the CPU, for padded rows with a prompt each.

    Two rows, in bfloat16 with heads 128 wide: one full with half of it prompt, one half as long.
    """
    import jax

    from jaxablate.core.slots import rows
    from jaxablate.kernels.attention import choose
    from jaxablate.kernels.call import Call
    from jaxablate.masks.lower import lower

    lengths = [length, (length + 1) // 2]
    slots = rows(lengths, length, [(n + 1) // 2 for n in lengths])
    lowered = lower(mask, slots, slots)
    q = jax.ShapeDtypeStruct((2, length, 32, 128), "bfloat16")
    k = jax.ShapeDtypeStruct((2, length, 8, 128), "bfloat16")
    for platform in ("gpu", "cpu"):
        choice = choose(Call.of(lowered, q, k, platform))
        print(f"\n{platform}: {choice.kernel} (the mask is {choice.kind!r} here)")
        for name, reason in choice.declined:
            print(f"  {name} declines: {reason}")
