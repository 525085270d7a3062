"""A model card: Markdown with the front matter of the hub, all numbers from the run folders.

<folder>/
    README.md
    README-loss.png     the learning curve
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from jaxablate.core.errors import UserError
from jaxablate.core.files import write_atomic
from jaxablate.reports import card_text, card_training
from jaxablate.reports.card_scores import ScoreTable, abilities, score_notes, score_tables
from jaxablate.reports.card_training import Row, amount
from jaxablate.reports.lineage import Lineage, load_lineage
from jaxablate.reports.loss_picture import loss_png
from jaxablate.reports.render import card_markdown
from jaxablate.reports.text_sources import TextSource, text_sources
from jaxablate.reports.works import Shelf, read_works

LICENCE = "cc-by-sa-4.0"
TAGS = ("jaxablate", "attention-masks", "prefix-lm", "small-language-model")


@dataclass(frozen=True, kw_only=True)
class CardConfig:
    """What a card says that no run folder tells.

    Attributes:
        name: of the model; empty is the experiment's name.
        licence: of the weights, as the hub writes it.
        languages: of the text, as the hub writes them.
        works: table of the works in the text, see `reports.works`; empty for none.
        notes: sentences that stand below the scores.
    """

    name: str = ""
    licence: str = LICENCE
    languages: tuple[str, ...] = ("en",)
    works: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for value in (self.licence, *self.languages):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", value):
                raise UserError(
                    f"licence and language are short names such as {LICENCE}, got {value!r}"
                )


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card shows, as plain values."""

    front: str
    name: str
    licences: tuple[str, ...]
    old: bool
    lead: str
    abilities: tuple[str, ...]
    tables: tuple[ScoreTable, ...]
    notes: tuple[str, ...]
    sizes: tuple[tuple[str, str], ...]
    sources: tuple[TextSource, ...]
    epochs: str
    attribution: tuple[str, ...]
    shelves: tuple[Shelf, ...]
    protection: tuple[str, ...]
    stages: tuple[str, ...]
    training: tuple[Row, ...]
    picture: str
    command: str
    config: str
    runs: tuple[tuple[str, ...], ...]
    fingerprint: str

    @property
    def fence(self) -> str:
        """Begins and ends a block of code: more backticks than stand in a row in any of them."""
        found = re.findall("`+", f"{self.command}\n{self.config}")
        return "`" * max([3, *(len(run) + 1 for run in found)])


def write_card(
    folder: str | Path, model: str, out: Path, config: CardConfig | None = None
) -> tuple[Path, Path]:
    """Write the card and its picture; returns their paths. Equal folders give equal bytes.

    Args:
        folder: an experiment's.
        model: training stage whose model it is.
        out: the Markdown file; the picture lies beside it.
        config: what the folders do not tell.

    Raises:
        UserError: for a model that was not trained from nothing, and for folders or files that are
            not as they should be.
    """
    lineage = load_lineage(folder, model)
    picture = out.with_name(f"{out.stem}-loss.png")
    text = card_markdown(build_card(lineage, config or CardConfig(), picture.name))
    curve = loss_png(lineage.trainings[0].run)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(picture, curve)
    write_atomic(out, text)
    return out, picture


def build_card(lineage: Lineage, config: CardConfig, picture: str) -> Card:
    """The card of a model with the name of its picture; raises `UserError` as `write_card` does."""
    first = lineage.trainings[0].run
    if not first.from_nothing:
        raise UserError(
            f"{first.path}: began with a checkpoint from outside; a card tells of models that were "
            "trained from nothing"
        )
    shelves = read_works(config.works) if config.works else ()
    sources, tables = text_sources(first), score_tables(lineage)
    return Card(
        front=_front(config),
        name=config.name or lineage.experiment,
        licences=tuple(card_text.licences(config.licence, sources)),
        old=card_text.is_old(sources, shelves),
        lead=_lead(lineage),
        abilities=abilities(tables),
        tables=tables,
        notes=(*score_notes(lineage), *config.notes),
        sizes=tuple(card_training.sizes(first)),
        sources=sources,
        epochs=card_text.epochs(lineage),
        attribution=tuple(card_text.attribution(sources, shelves)),
        shelves=shelves,
        protection=tuple(card_text.protection(lineage, sources)),
        stages=tuple(one.title for one in lineage.trainings),
        training=card_training.training_rows(lineage),
        picture=picture,
        command=card_training.command(lineage),
        config=card_training.config_yaml(lineage),
        runs=card_training.run_rows(lineage),
        fingerprint=lineage.fingerprint,
    )


def _front(config: CardConfig) -> str:
    table = {
        "license": config.licence,
        "language": list(config.languages),
        "pipeline_tag": "text-generation",
        "tags": list(TAGS),
    }
    return yaml.safe_dump(table, sort_keys=False).rstrip()


def _lead(lineage: Lineage) -> str:
    first, *later = (one.run for one in lineage.trainings)
    family = first.config.get("shape", {}).get("family", "?")
    text = (
        f"A decoder of {amount(card_training.parameters(first))} parameters in the style of "
        f"{family}, trained from nothing on {amount(first.summary['tokens_seen'])} tokens"
    )
    for run in later:
        text += f", then finetuned on {amount(run.summary['tokens_seen'])} tokens"
    return f"{text}. A reference model of jaxablate, made for experiments with attention masks."
