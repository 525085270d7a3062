"""Benchmark rows are cut out of the texts that a model learns from.

A run of 13 equal words is a copy (Brown et al. 2020, arXiv 2005.14165, app. C). Words are runs of
letters and digits of the lower-cased text. A question too short for such a run counts where a line
or a paragraph is that question and nothing else.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt64

from jaxablate.data.document import Document
from jaxablate.data.task_text import own_texts, task_rows
from jaxablate.data.text_config import ProtectConfig
from jaxablate.data.words import Words, lowered, occupied, split_words, within_sorted

_BREAK = re.compile(rb"\n[ \t\r]*\n\s*")
_LABEL = b"question"


class Hit(NamedTuple):
    """A protected row found in a document.

    `words` are those that it shares; `paragraph` counts from 0.
    """

    document: str
    paragraph: int
    task: str
    row: int
    words: str


@dataclass(frozen=True)
class Table:
    """Runs of words of the protected rows, sorted by hash; of equal ones the first.

    Attributes:
        hashes: of the runs.
        filled: `words.occupied(hashes)`.
        first, length: where each run stands in `words`.
        origins: (task, row) that it comes from.
        words: all protected texts, one after the other.
    """

    hashes: UInt64[np.ndarray, " H"]
    filled: Bool[np.ndarray, " F"]
    first: Int[np.ndarray, " H"]
    length: Int[np.ndarray, " H"]
    origins: Int[np.ndarray, "H 2"]
    words: Words

    def run(self, index: int) -> bytes:
        """The words of one entry."""
        return self.words.joined(int(self.first[index]), int(self.length[index]))


@dataclass(frozen=True)
class Protected:
    """The protected rows: runs of `ngram` words, and whole short questions."""

    tasks: tuple[str, ...]
    ngram: int
    runs: Table
    questions: Table

    @classmethod
    def load(cls, config: ProtectConfig) -> "Protected":
        """Read the rows; raises `UserError` as `data.sources.load_rows` does."""
        texts: dict[str, tuple[int, int]] = {}
        questions: dict[str, tuple[int, int]] = {}
        for number, task in enumerate(config.tasks):
            for index, row in enumerate(task_rows(task, config.split, folder=config.folder)):
                asked, answers = own_texts(task, row)
                for text in [*asked, *answers, *_joined(asked, answers)]:
                    texts.setdefault(text, (number, index))
                for text in asked:
                    questions.setdefault(text, (number, index))
        ngram = config.ngram
        return cls(config.tasks, ngram, _runs_table(texts, ngram), _short_table(questions, ngram))

    def hits(self, document: Document) -> list[Hit]:
        """Every place of a document that shares words with a protected row, one a paragraph."""
        if not self.tasks:
            return []
        words = split_words(document.text)
        if not len(words):
            return []
        breaks = np.array([match.end() for match in _BREAK.finditer(words.raw)], np.int64)
        found: dict[int, Hit] = {}
        for table, first, length in (
            (self.runs, *_every_run(len(words), self.ngram)),
            (self.questions, *_short_units(words, breaks, self.ngram)),
        ):
            self._look_up(document.id, words, table, first, length, breaks, found)
        return [found[paragraph] for paragraph in sorted(found)]

    def clean(self, document: Document, *, whole: bool) -> tuple[Document | None, list[Hit]]:
        """The document without the paragraphs that are hit, None if nothing is left.

        With `whole`, one hit is enough to leave out all of it: half an exercise is none.
        """
        hits = self.hits(document)
        if not hits:
            return document, []
        if whole:
            return None, hits
        cut = {hit.paragraph for hit in hits}
        text = "".join(
            part for number, part in enumerate(paragraphs(document.text)) if number not in cut
        )
        return (document._replace(text=text) if text.strip() else None), hits

    def _look_up(
        self,
        name: str,
        words: Words,
        table: Table,
        first: Int[np.ndarray, " R"],
        length: Int[np.ndarray, " R"],
        breaks: Int[np.ndarray, " P"],
        found: dict[int, Hit],
    ) -> None:
        hashes = words.runs(first, length)
        for index in within_sorted(hashes, table.hashes, table.filled).tolist():
            place = int(np.searchsorted(table.hashes, hashes[index]))
            begin, count = int(first[index]), int(length[index])
            shared = words.joined(begin, count)
            if shared != table.run(place):
                continue
            task, row = table.origins[place].tolist()
            ends = words.starts[[begin, begin + count - 1]]
            from_, to = np.searchsorted(breaks, ends, side="right").tolist()
            for paragraph in range(from_, to + 1):
                hit = Hit(name, paragraph, self.tasks[task], row, shared.decode())
                found.setdefault(paragraph, hit)


def paragraphs(text: str) -> list[str]:
    r"""A text's paragraphs, each with the empty lines behind it.

    >>> paragraphs("One\nline.\n\n\nTwo.")
    ['One\nline.\n\n\n', 'Two.']
    """
    cuts = [0, *(match.end() for match in re.finditer(_BREAK.pattern.decode(), text, re.A))]
    return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _runs_table(texts: Mapping[str, tuple[int, int]], ngram: int) -> Table:
    """Every run of `ngram` words that lies within one text."""
    words, owner = _words_of(texts)
    first, length = _every_run(len(words), ngram)
    return _table(words, owner, first, length, texts)


def _short_table(texts: Mapping[str, tuple[int, int]], ngram: int) -> Table:
    """Every text of fewer than `ngram` words, as a whole."""
    words, owner = _words_of(texts)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    length = np.diff(first, append=len(words))
    short = length < ngram
    return _table(words, owner, first[short], length[short], texts)


def _words_of(texts: Iterable[str]) -> tuple[Words, Int[np.ndarray, " N"]]:
    """The words of all texts, one after the other, and the text that each belongs to."""
    parts = [lowered(text) for text in texts]
    words = split_words(b"\n".join(parts))
    ends = np.cumsum([len(part) + 1 for part in parts])
    return words, np.searchsorted(ends, words.starts, side="right")


def _table(
    words: Words,
    owner: Int[np.ndarray, " N"],
    first: Int[np.ndarray, " R"],
    length: Int[np.ndarray, " R"],
    texts: Mapping[str, tuple[int, int]],
) -> Table:
    inside = owner[first] == owner[first + length - 1]
    first, length = first[inside], length[inside]
    hashes, chosen = np.unique(words.runs(first, length), return_index=True)
    first, length = first[chosen], length[chosen]
    origins = np.array([*texts.values()], np.int64).reshape(-1, 2)[owner[first]]
    return Table(hashes, occupied(hashes), first, length, origins, words)


def _joined(questions: Sequence[str], answers: Iterable[str]) -> list[str]:
    return [f"{question} {answer}" for answer in answers for question in questions]


def _every_run(count: int, ngram: int) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    first = np.arange(max(0, count - ngram + 1))
    return first, np.full(len(first), ngram)


def _short_units(
    words: Words, breaks: Int[np.ndarray, " P"], ngram: int
) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """Lines and paragraphs of fewer than `ngram` words, with and without a leading "Question:"."""
    newlines = np.flatnonzero(np.frombuffer(words.raw, np.uint8) == ord("\n"))
    firsts, lengths = [], []
    for borders in (newlines, breaks):
        edges = np.searchsorted(words.starts, borders)
        edges = np.unique(np.concatenate([[0], edges, [len(words)]]))
        firsts.append(edges[:-1])
        lengths.append(np.diff(edges))
    first, length = np.concatenate(firsts), np.concatenate(lengths)
    short = length <= ngram
    first, length = first[short], length[short]
    sizes = words.ends[first] - words.starts[first]
    labelled = [
        i
        for i in np.flatnonzero((sizes == len(_LABEL)) & (length > 1)).tolist()
        if words.raw[words.starts[first[i]] : words.ends[first[i]]] == _LABEL
    ]
    first = np.concatenate([first, first[labelled] + 1])
    length = np.concatenate([length, length[labelled] - 1])
    return first[length < ngram], length[length < ngram]
