"""The texts of a pretraining: how much of each, under which licence, what was cut out."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.data.sources import SOURCES
from jaxablate.reports.finetune import FinetuneRun
from jaxablate.reports.shapes import Maybe, match

_SOURCE = {
    "licence": Maybe(str),
    "documents": int,
    "tokens": int,
    "held_out_documents": int,
    "held_out_tokens": int,
    "repeat": int,
    "dropped": dict,
}
_RECORDS = {"sources": dict, "train": {"examples": int, "tokens": int}}
# Benchmarks of which only the text is learned from, and which `data.sources` does not have.
_HOMES = {
    "squad": "https://rajpurkar.github.io/SQuAD-explorer",
    "wikitext-2": "https://huggingface.co/datasets/Salesforce/wikitext",
}


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """One source of text in an epoch.

    Attributes:
        name: as the config has it.
        kind: files, task or synthetic.
        documents, tokens: of all of it, each document once.
        learned: tokens that are learned from, each once; the others are held out.
        repeat: copies of what is learned in an epoch.
        share: of the tokens of an epoch.
        licence, home: as the config says, or as is known of the benchmark; empty where neither.
        dropped: places cut out because they stand in a protected row, by benchmark.
        held_out: all of it is for the held-out loss.
    """

    name: str
    kind: str
    documents: int
    tokens: int
    learned: int
    repeat: int
    share: float
    licence: str
    home: str
    dropped: tuple[tuple[str, int], ...]
    held_out: bool

    @property
    def total_dropped(self) -> int:
        """Places that were cut out."""
        return sum(count for _, count in self.dropped)


def text_sources(run: FinetuneRun) -> tuple[TextSource, ...]:
    """The sources of a pretraining, in the order of its config; none for a run that is not done.

    Raises:
        UserError: for facts that are not as they should be.
    """
    records = run.manifest.get("records")
    if not run.from_nothing or records is None:
        return ()
    path = run.path / "manifest.json"
    match(records, _RECORDS, "records", path)
    configs = chain(_configs(run.config), repeat({}))
    sizes = {}
    for name, facts in records["sources"].items():
        match(facts, _SOURCE, f"records.sources.{name}", path)
        for task, count in facts["dropped"].items():
            match(count, int, f"records.sources.{name}.dropped.{task}", path)
        sizes[name] = facts["repeat"] * (facts["tokens"] - facts["held_out_tokens"])
    total = sum(sizes.values())
    if total <= 0:
        raise UserError(f"{path}: records has no token that is learned from")
    return tuple(
        _source(name, facts, config, sizes[name] / total)
        for (name, facts), config in zip(records["sources"].items(), configs, strict=False)
    )


def _source(
    name: str, facts: Mapping[str, Any], config: Mapping[str, Any], share: float
) -> TextSource:
    known = SOURCES.get(str(config.get("name")))
    learned = facts["tokens"] - facts["held_out_tokens"]
    own = known is not None and not known.made
    return TextSource(
        name=name,
        kind=str(config.get("kind", "?")),
        documents=facts["documents"],
        tokens=facts["tokens"],
        learned=learned,
        repeat=facts["repeat"],
        share=share,
        licence=facts.get("licence") or (known.licence if own and known else ""),
        home=str(config.get("home") or _home(config) or (known.home if own and known else "")),
        dropped=tuple(sorted(facts["dropped"].items())),
        held_out=learned == 0,
    )


def _home(config: Mapping[str, Any]) -> str:
    return _HOMES.get(str(config.get("name")), "") if config.get("kind") == "task" else ""


def _configs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the config says of each source; the facts have them in the same order."""
    data = config.get("data")
    sources = data.get("sources") if isinstance(data, dict) else None
    every = sources if isinstance(sources, list) else []
    return [source if isinstance(source, dict) else {} for source in every]
