"""Write a model card for a model that an experiment trained from nothing.

Markdown with the front matter of the Hugging Face hub, and the learning curve as a picture beside
it. Every number comes from the run folders: sizes, texts and their licences, what was kept out,
the training, scores under each mask. The same folders give the same bytes.
"""

import argparse
from pathlib import Path

from jaxablate.cli.parser import Parser
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate card runs/ref-6m --model instruct --out ref-6m/README.md
jaxablate card runs/ref-6m --model instruct --works corpus/MANIFEST.tsv --out ref-6m/README.md
jaxablate card runs/mine --model text --licence apache-2.0 --language de --out README.md
"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help="folder of an experiment")
    parser.add_argument(
        "--model", required=True, metavar="STAGE", help="training stage that made the model"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("README.md"),
        metavar="FILE",
        help="the card (README.md); FILE's stem and -loss.png is the picture beside it",
    )
    parser.add_argument("--name", default="", help="of the model (default: the experiment's name)")
    parser.add_argument(
        "--licence",
        default="cc-by-sa-4.0",
        metavar="NAME",
        help="of the weights, as the hub writes it (cc-by-sa-4.0)",
    )
    parser.add_argument(
        "--language", action="append", metavar="CODE", help="of the text (en); repeatable"
    )
    parser.add_argument(
        "--works",
        default="",
        metavar="FILE.tsv",
        help="table of the works in the text, with the columns path, source and licence",
    )
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="SENTENCE",
        help="stands below the scores; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Write card and picture, and print their paths."""
    from jaxablate.reports.card import CardConfig, write_card

    config = CardConfig(
        name=args.name,
        licence=args.licence,
        languages=tuple(args.language or ["en"]),
        works=args.works,
        notes=tuple(args.note),
    )
    written = write_card(args.experiment, args.model, args.out, config)
    for path in written:
        print(visible(path))
    return 0
