"""Benchmark rows as text: what of them is learned, and what of them must not be.

Training rows are worded as evaluation words its prompts (the variant `standard`), with the right
answer behind them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxablate.core.errors import UserError, unknown
from jaxablate.data.document import Document
from jaxablate.data.sources import SOURCES, Row, check_row, find_file, load_rows, read_numbered

_BRACKETED = re.compile(r"\[.*?\]")
_TITLE = re.compile(r" = ([^=].*[^=]|[^=]) = ")


@dataclass(frozen=True, kw_only=True)
class TaskText:
    """How rows of a benchmark become documents, and which texts of a row are its own.

    Attributes:
        fields: kind of each field, as in `data.sources.Source`; empty where `SOURCES` has them.
        documents: (name, text) of rows.
        own: (questions, answers) of a row: the texts that say which row it is, and others, which
            may stand behind each of them.
    """

    documents: Callable[[Iterable[Row]], Iterator[tuple[str, str]]]
    own: Callable[[Row], tuple[list[str], list[str]]]
    fields: Mapping[str, str] | None = None


def task_documents(name: str, split: str, *, folder: str | Path) -> Iterator[Document]:
    """The rows of a split as documents.

    Raises:
        UserError: for a benchmark that has no wording here, and as `data.sources.load_rows`.
    """
    if name not in TASKS:
        raise unknown("task with text", name, TASKS)
    rows = task_rows(name, split, folder=folder)
    for number, text in TASKS[name].documents(rows):
        yield Document(number, text)


def task_rows(name: str, split: str, *, folder: str | Path) -> list[Row]:
    """Checked rows of a split, also of benchmarks that are text only."""
    fields = TASKS[name].fields if name in TASKS else None
    if fields is None:
        return list(load_rows(name, split, folder=folder).rows)
    path = find_file(Path(folder), name, split)
    return [check_row(row, fields, where) for where, row in read_numbered(path)]


def own_texts(name: str, row: Row) -> tuple[list[str], list[str]]:
    """The questions of a row, and its answers; of an unknown task, all of its text fields."""
    if name in TASKS:
        return TASKS[name].own(row)
    fields = SOURCES[name].fields
    texts = [row[field] for field, kind in fields.items() if kind == "text"]
    lists = [row[field] for field, kind in fields.items() if kind == "texts"]
    return texts, [text for texts in lists for text in texts]


def _each(word: Callable[[Row], str]) -> Callable[[Iterable[Row]], Iterator[tuple[str, str]]]:
    def documents(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
        for number, row in enumerate(rows):
            yield str(number), word(row)

    return documents


def _hellaswag_clean(text: str) -> str:
    """WikiHow's bracket marks removed; double spaces halved once, as the harness does."""
    return _BRACKETED.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _hellaswag_context(row: Row) -> str:
    label = f"{row['activity_label']}: " if row["activity_label"] else ""
    return _hellaswag_clean(f"{label}{row['ctx_a']} {row['ctx_b'].capitalize()}").lstrip()


def _hellaswag(row: Row) -> str:
    return f"{_hellaswag_context(row)} {_hellaswag_clean(row['endings'][int(row['label'])])}"


def _hellaswag_own(row: Row) -> tuple[list[str], list[str]]:
    context = _hellaswag_clean(f"{row['ctx_a']} {row['ctx_b']}")
    return [context, f"{row['ctx_a']} {row['ctx_b']}"], [*map(_hellaswag_clean, row["endings"])]


def _piqa(row: Row) -> str:
    solution = row[f"sol{int(row['label']) + 1}"]
    return f"Question: {row['goal']}\nAnswer: {solution}"


def _arc(row: Row) -> str:
    labels = row["choices"]["label"]
    if row["answerKey"] not in labels:
        known = ", ".join(map(str, labels))
        raise UserError(f"answerKey {row['answerKey']!r} is not among {known}")
    answer = row["choices"]["text"][labels.index(row["answerKey"])]
    return f"Question: {row['question']}\nAnswer: {answer}"


def _filled(row: Row, option: str) -> str:
    before, _, after = row["sentence"].partition("_")
    return f"{before}{option} {after.strip()}"


def _winogrande(row: Row) -> str:
    return _filled(row, row[f"option{row['answer']}"])


def _squad(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """One document a paragraph, with all its questions that have an answer."""
    paragraphs: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        asked = paragraphs.setdefault((row["title"], row["context"]), [])
        answers = row["answers"].get("text") if isinstance(row.get("answers"), dict) else None
        if not isinstance(answers, list):
            raise UserError(f"squad: wanted a table of answers with 'text', got {answers!r:.80}")
        if answers:
            asked.append(f"Question: {row['question']}\nAnswer: {answers[0]}")
    for number, ((title, context), asked) in enumerate(paragraphs.items()):
        heading = title.replace("_", " ")
        yield str(number), "\n\n".join([heading, context, *asked])


def _wikitext(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """One document an article; a line is a paragraph or a heading."""
    number, lines = 0, []
    for row in rows:
        if _TITLE.fullmatch(row["text"].rstrip("\n")) and lines:
            yield str(number), "\n\n".join(lines)
            number, lines = number + 1, []
        if row["text"].strip():
            lines.append(detokenised(row["text"]))
    if lines:
        yield str(number), "\n\n".join(lines)


def detokenised(line: str) -> str:
    """A line of WikiText as it was before it was cut into words; a heading loses its marks.

    >>> detokenised(' The role @-@ playing game ( 2011 ) was " good " , they said . ')
    'The role-playing game (2011) was "good", they said.'
    """
    text = line.strip()
    if text.startswith("= ") and text.endswith(" ="):
        text = text.strip("= ")
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r'" ([^"]*?) "', r'"\1"', text)
    text = re.sub(r" (n't|'(?:s|re|ve|ll|d|m)\b)", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    return re.sub(r" ([)\].,;:!?%])", r"\1", text)


_SQUAD_FIELDS = {"title": "text", "context": "text", "question": "text"}
_ARC = TaskText(
    documents=_each(_arc), own=lambda row: ([row["question"]], list(row["choices"]["text"]))
)
_SQUAD = TaskText(
    documents=_squad, own=lambda row: ([row["context"], row["question"]], []), fields=_SQUAD_FIELDS
)
TASKS: dict[str, TaskText] = {
    "hellaswag": TaskText(documents=_each(_hellaswag), own=_hellaswag_own),
    "piqa": TaskText(
        documents=_each(_piqa), own=lambda row: ([row["goal"]], [row["sol1"], row["sol2"]])
    ),
    "arc_easy": _ARC,
    "arc_challenge": _ARC,
    "winogrande": TaskText(
        documents=_each(_winogrande),
        own=lambda row: ([_filled(row, row["option1"]), _filled(row, row["option2"])], []),
    ),
    "squad": _SQUAD,
    "squad_v2": _SQUAD,
    "wikitext-2": TaskText(
        documents=_wikitext,
        # A line is no question: articles share short ones, such as headings.
        own=lambda row: ([], [detokenised(row["text"])]),
        fields={"text": "text"},
    ),
}
