"""What a model card says of the text: licences, attribution, epochs, what was kept out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from jaxablate.reports.card_training import amount
from jaxablate.reports.facts import tables
from jaxablate.reports.lineage import Lineage
from jaxablate.reports.text_sources import TextSource
from jaxablate.reports.works import Shelf

OPENSTAX = (
    "Textbooks by OpenStax, Rice University, licensed under CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/). Access for free at https://openstax.org. "
    "They were changed: turned into plain text, paragraphs cut out as told below, split into "
    "tokens. OpenStax does not endorse this model."
)
# Who made the benchmarks whose training rows are learned from.
_AUTHORS = {
    "hellaswag": "HellaSwag: Zellers et al. 2019, arXiv 1905.07830",
    "piqa": "PIQA: Bisk et al. 2020, arXiv 1911.11641",
    "arc": "ARC: Clark et al. 2018, arXiv 1803.05457, Allen Institute for AI",
    "winogrande": "WinoGrande: Sakaguchi et al. 2020, arXiv 1907.10641, Allen Institute for AI",
    "squad": "SQuAD: Rajpurkar et al. 2016, arXiv 1606.05250, on text by the authors of Wikipedia",
    "wikitext-2": "WikiText-2: Merity et al. 2017, arXiv 1609.07843, text by the authors of "
    "Wikipedia",
}


def epochs(lineage: Lineage) -> str:
    """How often the text was read, and what was learned after it."""
    first = lineage.trainings[0].run
    train = first.manifest["records"]["train"]["tokens"]
    seen = first.summary["tokens_seen"]
    text = (
        f"An epoch has {amount(train)} tokens; {amount(seen)} were read, {seen / train:.2f} epochs."
    )
    for one in lineage.trainings[1:]:
        records = one.run.manifest.get("records")
        records = records if isinstance(records, dict) else {}
        licence = records.get("licence") or "licence not known"
        text += f" {one.title}: the set {records.get('name', '?')} ({licence})."
    return text


def licences(licence: str, sources: Sequence[TextSource]) -> Iterator[str]:
    """The licence of the weights, and why it is that one."""
    yield f"The weights are licensed under {licence}."
    learned = [one for one in sources if not one.held_out]
    alike = [one.name for one in learned if "BY-SA" in one.licence.upper().replace(" ", "-")]
    if alike and "by-sa" in licence:
        yield f"Why share-alike: so is the text of {', '.join(alike)}."


def is_old(sources: Sequence[TextSource], shelves: Sequence[Shelf]) -> bool:
    """Whether there are books among the text whose copyright has ended."""
    licences = [one.licence for one in (*sources, *shelves)]
    return any("public domain" in licence.lower() for licence in licences)


def attribution(sources: Sequence[TextSource], shelves: Sequence[Shelf]) -> Iterator[str]:
    """Whom the licences of the text ask to name."""
    told = [f"{one.licence} {one.home}" for one in sources]
    told += [f"{shelf.licence} {work.source}" for shelf in shelves for work in shelf.works]
    if any("openstax" in text.lower() for text in told):
        yield OPENSTAX
    for name, authors in _AUTHORS.items():
        if any(one.kind == "task" and one.name.startswith(name) for one in sources):
            yield f"{authors}."


def protection(lineage: Lineage, sources: Sequence[TextSource]) -> Iterator[str]:
    """Which benchmark rows were looked for, how, and how many places were cut out."""
    protect = lineage.trainings[0].run.config["data"].get("protect") or {}
    tasks = protect.get("tasks") or []
    if not tasks:
        yield "Nothing was protected: the text may hold rows that the model is asked."
        return
    rows = _rows_of(lineage, protect)
    named = ", ".join(f"{task} ({rows[task]:,} rows)" if task in rows else task for task in tasks)
    yield f"Protected: the rows of the split {protect.get('split', '?')} of {named}."
    yield (
        f"A paragraph that shares {protect.get('ngram', '?')} words in a row with a protected row "
        "was cut out, and so was a paragraph or line that is a shorter protected question. A "
        "document that is a benchmark's training row was then left out whole."
    )
    dropped = sum(one.total_dropped for one in sources)
    cut = ", ".join(f"{one.name} {one.total_dropped:,}" for one in sources if one.total_dropped)
    yield f"Places found: {dropped:,}{f' ({cut})' if cut else ''}."


def _rows_of(lineage: Lineage, protect: Mapping[str, Any]) -> dict[str, int]:
    """How many protected rows a benchmark has, where an evaluation read the same file."""
    found: dict[str, int] = {}
    for one in lineage.evaluations:
        if PurePath(str(one.run.config.get("data"))) != PurePath(str(protect.get("folder"))):
            continue
        for task, facts in tables(one.run.manifest.get("data")):
            rows, origin = facts.get("rows_in_split"), str(facts.get("origin"))
            own_file = facts.get("split") == protect.get("split") and "bundled" not in origin
            if isinstance(rows, int) and own_file:
                found[task] = rows
    return found
