"""One mask's questions through its scorer, batch by batch, with the journal as memory."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxablate.core.config import differences
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.mcq import ChoiceScore, item_scores, predict
from jaxablate.evaluation.prepare import PreparedTask, all_questions
from jaxablate.evaluation.progress import Progress
from jaxablate.masks.algebra import Mask
from jaxablate.runs.journal import Journal
from jaxablate.runs.manifest import code_digest, versions

Scores = dict[int, list[ChoiceScore]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One mask's work: its scorer, the batches, and what identifies their results."""

    name: str
    mask: Mask
    scorer: Any
    batches: Sequence[Any]
    key: dict[str, Any]

    @property
    def leak(self) -> dict[str, Any]:
        """The leak guard's verdict."""
        return self.scorer.description().get("leak") or {"leaky": False, "sentence": ""}


def plan_part(
    lm: Any, config: EvalConfig, name: str, mask: Mask, scorer: Any, tasks: Sequence[PreparedTask]
) -> Part:
    """Plan a mask's batches; raises `LeakError` when answers could see themselves."""
    batches = scorer.plan(all_questions(tasks))
    key = {
        "weights": lm.source.get("weights"),
        "mask": str(mask),
        "tokenizer": lm.tokenizer.digest,
        "tasks": [[t.name, t.version, config.variant, t.data["digest"]] for t in tasks],
        "questions": digest([task.encoded.digests for task in tasks]),
        "dtype": config.dtype,
        "window_policy": config.window_policy,
        "plan": digest([batch.digest for batch in batches]),
        "code": code_digest(),
        "packages": versions(),
        "platform": scorer.description().get("platform"),
    }
    return Part(name=name, mask=mask, scorer=scorer, batches=batches, key=key)


def score_part(
    part: Part, journal: Journal, progress: Progress, tasks: Sequence[PreparedTask]
) -> Scores:
    """Scores of all questions: those of finished batches from the journal, then the rest."""
    known = finished_batches(part, journal)
    scores: Scores = {q: s for found in known.values() for q, s in found.items()}
    tracker = Tracker(tasks)
    items, correct = tracker.update(scores, scores)
    progress.start(part.name, tracker.total, items + tracker.unasked, correct)
    try:
        remaining = [batch for batch in part.batches if batch.digest not in known]
        for batch, found in part.scorer.stream(remaining):
            fresh = {question: _plain(pairs) for question, pairs in found.items()}
            tracker.check_finite(fresh)
            journal.append(
                {"mask": str(part.mask), "batch": batch.digest, "scores": _as_json(fresh)}
            )
            scores.update(fresh)
            progress.advance(*tracker.update(fresh, scores))
    finally:
        progress.finish()
    return scores


def finished_batches(part: Part, journal: Journal) -> dict[str, Scores]:
    """Scores by batch digest. The first entry of a mask holds its key, made here if need be.

    Raises:
        UserError: when the journal's work was done by other weights, data or code.
    """
    own = [entry for entry in journal.entries if entry["mask"] == str(part.mask)]
    if not own:
        journal.append({"mask": str(part.mask), "key": part.key})
        return {}
    changed = differences(own[0]["key"], part.key)
    if changed:
        raise UserError(
            f"{journal.path}: the finished batches in it are another's: {'; '.join(changed)}; "
            "start anew in another folder"
        )
    return {entry["batch"]: _from_json(entry["scores"]) for entry in own[1:]}


def _plain(pairs: Iterable[Any]) -> list[ChoiceScore]:
    return [ChoiceScore(pair.sum, pair.num_tokens, bool(pair.is_greedy)) for pair in pairs]


def _as_json(scores: Scores) -> dict[str, list[list[Any]]]:
    return {str(question): [list(score) for score in found] for question, found in scores.items()}


def _from_json(table: Mapping[str, Any]) -> Scores:
    return {int(q): [ChoiceScore(*score) for score in found] for q, found in table.items()}


class Tracker:
    """Notices when all questions of an item are answered, and whether the answer is right.

    Attributes:
        total: items of all tasks.
        unasked: items that need no question, since no choice has a token of its own.
    """

    def __init__(self, tasks: Sequence[PreparedTask]):
        self._tasks = tasks
        self._waiting: dict[tuple[int, int], set[int]] = {}
        self._items: dict[int, list[tuple[int, int]]] = {}
        for t, task in enumerate(tasks):
            for i, places in enumerate(task.encoded.places):
                self._waiting[t, i] = {place.question for place in places if place}
                for question in self._waiting[t, i]:
                    self._items.setdefault(question, []).append((t, i))
        self.total = len(self._waiting)
        self.unasked = sum(not needed for needed in self._waiting.values())

    def update(self, answered: Iterable[int], scores: Scores) -> tuple[int, int]:
        """How many items these questions complete, and how many of those are right."""
        completed = []
        for question in answered:
            for key in self._items[question]:
                self._waiting[key].discard(question)
                if not self._waiting[key]:
                    completed.append(key)
        return len(completed), sum(self._is_right(t, i, scores) for t, i in completed)

    def check_finite(self, scores: Scores) -> None:
        """Raise `UserError` that names an item with a score that is no number."""
        for question, found in scores.items():
            wrong = [score.logprob for score in found if not math.isfinite(score.logprob)]
            if wrong:
                t, i = self._items[question][0]
                raise UserError(
                    f"{self._tasks[t].name}, {self._tasks[t].encoded.items[i].id}: a "
                    f"log-probability is {wrong[0]}; the weights or the dtype are at fault"
                )

    def _is_right(self, t: int, i: int, scores: Scores) -> bool:
        task = self._tasks[t]
        item = task.encoded.items[i]
        return predict(item, item_scores(task.encoded, i, scores))[task.primary] == item.label
