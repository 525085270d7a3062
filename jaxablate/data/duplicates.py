"""Near-duplicates between a training and an evaluation set: what was, in effect, trained on.

Two signs: the same prompt after normalisation, and shared runs of 13 words
(arXiv 2005.14165, appendix C).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from jaxablate.data.records import Record

NGRAM = 13
_WORD = re.compile(r"\w+")
_LISTED = 50


def near_duplicates(
    train: Sequence[Record], held_out: Sequence[Record], *, threshold: float = 0.5
) -> dict[str, Any]:
    """Which held-out records occur in `train`; plain JSON for a run folder.

    A record counts as near-duplicate if a training record has the same normalised prompt, or
    holds at least `threshold` of its 13-word runs (a shorter text is one run).

    Returns:
        Counts (`held_out`, `same_prompt`, `shared_text`, `near_duplicates`), the `ids` of the
        near-duplicates, and the first 50 `pairs` with their reason.
    """
    by_prompt = {prompt_key(record): record.id for record in reversed(train)}
    overlaps = _overlaps(train, held_out)
    pairs = []
    for record, (twin, share) in zip(held_out, overlaps, strict=True):
        same = by_prompt.get(prompt_key(record))
        if same is not None or share >= threshold:
            other = same if same is not None else twin
            pairs.append(
                {
                    "held_out": record.id,
                    "train": other,
                    "same_prompt": same is not None,
                    "shared_text": round(share, 4),
                }
            )
    return {
        "held_out": len(held_out),
        "same_prompt": sum(pair["same_prompt"] for pair in pairs),
        "shared_text": sum(pair["shared_text"] >= threshold for pair in pairs),
        "near_duplicates": len(pairs),
        "ids": [pair["held_out"] for pair in pairs],
        "pairs": pairs[:_LISTED],
    }


def prompt_key(record: Record) -> tuple[str, ...]:
    """The words of the prompt, earlier turns among them, without case, punctuation and spacing.

    >>> prompt_key(Record("0", "Add, please:", "2 + 3", "5"))
    ('add', 'please', '2', '3')
    """
    return tuple(_words(" ".join([*_earlier(record), record.instruction, record.input])))


def _overlaps(
    train: Sequence[Record], held_out: Sequence[Record]
) -> list[tuple[str | None, float]]:
    """For each held-out record, the training record that shares most runs, and the share."""
    owners: dict[tuple[str, ...], list[int]] = defaultdict(list)
    totals = []
    for index, record in enumerate(held_out):
        runs = set(_runs(record))
        totals.append(len(runs))
        for run in runs:
            owners[run].append(index)
    best: list[tuple[str | None, float]] = [(None, 0.0)] * len(held_out)
    for record in train:
        hits = Counter(index for run in set(_runs(record)) for index in owners.get(run, ()))
        for index, count in hits.items():
            if count / totals[index] > best[index][1]:
                best[index] = (record.id, count / totals[index])
    return best


def _runs(record: Record) -> Iterator[tuple[str, ...]]:
    texts = [*_earlier(record), record.instruction, record.input, record.output]
    words = _words(" ".join(texts))
    if len(words) <= NGRAM:
        yield tuple(words)
    else:
        yield from zip(*(words[start:] for start in range(NGRAM)), strict=False)


def _earlier(record: Record) -> list[str]:
    return [turn.content for turn in record.earlier]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
