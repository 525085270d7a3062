"""From log-likelihoods to an answer: one record an item, under every normalisation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxablate.evaluation.encode import Encoded
from jaxablate.evaluation.task import Item

# What a choice's log-likelihood is divided by before the largest wins.
MEASURES = ("acc", "acc_norm", "acc_bytes", "acc_per_token")


class ChoiceScore(NamedTuple):
    """Log-likelihood of one choice, its tokens, and whether each was the most likely one."""

    logprob: float
    num_tokens: int
    is_greedy: bool


NO_TOKENS = ChoiceScore(-math.inf, 0, False)
Scores = Mapping[int, Sequence[ChoiceScore]]


def item_scores(encoded: Encoded, index: int, scores: Scores) -> list[ChoiceScore]:
    """Scores of an item's choices, from those of the questions."""
    return [
        NO_TOKENS if place is None else scores[place.question][place.continuation]
        for place in encoded.places[index]
    ]


def predict(item: Item, scores: Sequence[ChoiceScore]) -> dict[str, int]:
    """The chosen answer by each measure; the first of equal ones wins, as in the references."""
    return {name: _argmax(values) for name, values in normalised(item, scores).items()}


def normalised(item: Item, scores: Sequence[ChoiceScore]) -> dict[str, list[float]]:
    """What each measure compares. Lengths are those of the answer without its delimiter."""
    lengths = {
        "acc": [1] * len(scores),
        "acc_norm": [len(answer) for answer in item.answers],
        "acc_bytes": [len(answer.encode()) for answer in item.answers],
        "acc_per_token": [score.num_tokens for score in scores],
    }
    return {
        name: [s.logprob / max(1, n) for s, n in zip(scores, lengths[name], strict=True)]
        for name in MEASURES
    }


def record(encoded: Encoded, index: int, scores: Scores) -> dict[str, Any]:
    """All that was measured of one item, as plain values.

    A choice without a token of its own has the log-probability null.
    """
    item, own = encoded.items[index], item_scores(encoded, index, scores)
    values = normalised(item, own)
    return {
        "id": item.id,
        "label": item.label,
        "logprobs": [None if s is NO_TOKENS else s.logprob for s in own],
        "num_tokens": [score.num_tokens for score in own],
        "num_chars": [len(answer) for answer in item.answers],
        "num_bytes": [len(answer.encode()) for answer in item.answers],
        "is_greedy": [score.is_greedy for score in own],
        "predictions": {name: _argmax(values[name]) for name in MEASURES},
        "ties": [name for name in MEASURES if values[name].count(max(values[name])) > 1],
        "digest": encoded.digests[index],
    }


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: values[i])
