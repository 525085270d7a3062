"""Records to results: accuracies with intervals, chance, ties, and what went into them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from jaxablate.evaluation.encode import Encoded
from jaxablate.evaluation.mcq import MEASURES
from jaxablate.evaluation.task import Task
from jaxablate.runs import statistics

Record = dict[str, Any]
# Below this p value a score counts as different from guessing.
LEVEL = 0.05
CHANCE_LEVEL = "not distinguishable from chance"


def task_result(
    records: Sequence[Record], *, primary: str, compat: bool, samples: int, seed: int
) -> dict[str, Any]:
    """Results of one task under one mask.

    `accuracy` is the task's primary measure. `chance` is the mean over items of one over the
    choices; `compat` keeps its reference's definition, one over the mean number of choices.
    """
    counts = [len(record["logprobs"]) for record in records]
    chance = sum(1 / count for count in counts) / len(counts)
    return {
        "total": len(records),
        "accuracy": _share(records, primary),
        "accuracy_by": primary,
        "chance": len(counts) / sum(counts) if compat else chance,
        "chance_per_item": chance,
        "measures": {
            name: _measure(records, name, chance, samples=samples, seed=seed) for name in MEASURES
        },
        "labels": _histogram([record["label"] for record in records], max(counts)),
        "without_tokens": sum(record["logprobs"].count(None) for record in records),
    }


def _share(records: Sequence[Record], measure: str) -> float:
    return num_correct(records, measure) / len(records)


def num_correct(records: Sequence[Record], measure: str) -> int:
    """Items whose prediction by a measure is the right answer."""
    return sum(record["predictions"][measure] == record["label"] for record in records)


def _measure(
    records: Sequence[Record], name: str, chance: float, *, samples: int, seed: int
) -> dict[str, Any]:
    correct, total = num_correct(records, name), len(records)
    found = statistics.accuracy_interval(correct, total, samples=samples, seed=seed)
    chances = Counter(1 / len(record["logprobs"]) for record in records)
    p_value = statistics.chance_p_value(correct, chances)
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "standard_error": statistics.standard_error(correct, total),
        "n": total,
        "correct": correct,
        "chance_corrected": _corrected(found, chance),
        "p_chance": p_value,
        "verdict": verdict(p_value, found.value, chance),
        "ties": sum(name in record["ties"] for record in records),
        "choices": _histogram(
            [record["predictions"][name] for record in records],
            max(len(record["logprobs"]) for record in records),
        ),
    }


def verdict(p_value: float, value: float, chance: float) -> str:
    """In words, how an accuracy stands to guessing."""
    if p_value >= LEVEL:
        return CHANCE_LEVEL
    return "above chance" if value > chance else "below chance"


def _corrected(found: statistics.Interval, chance: float) -> dict[str, float]:
    ends = (statistics.chance_corrected(end, chance) for end in found)
    return dict(zip(("value", "low", "high"), ends, strict=True))


def _histogram(values: Sequence[int], size: int) -> list[int]:
    return [values.count(choice) for choice in range(size)]


def encoding_counts(encoded: Encoded) -> dict[str, int]:
    """What encoding did to a task's pairs."""
    return {
        "pairs": encoded.num_pairs,
        "questions": len(encoded.questions),
        "boundary_mismatches": encoded.boundary_mismatches,
        "truncated": encoded.truncated,
    }


def kind(task: Task) -> dict[str, bool]:
    """What sets a task apart from a benchmark; nothing for a benchmark."""
    return {name: True for name in ("instrument", "canary") if getattr(task, name)}


def counted(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results that a mean over tasks is of: the benchmarks, else the instruments.

    A canary, to which there is no answer, is never among them unless it stands alone.
    """
    plain = [task for task in tasks if not task.get("instrument")]
    return plain or [task for task in tasks if not task.get("canary")] or list(tasks)


def macro_result(tasks: Sequence[dict[str, Any]], *, samples: int, seed: int) -> dict[str, Any]:
    """Plain means over the tasks that count, by each measure and by each task's primary one."""
    tasks = counted(tasks)
    results = {
        name: _macro([task["measures"][name] for task in tasks], tasks, samples, seed)
        for name in MEASURES
    }
    primary = [task["measures"][task["accuracy_by"]] for task in tasks]
    return {"primary": _macro(primary, tasks, samples, seed), **results}


def _macro(
    measures: Sequence[dict[str, Any]], tasks: Sequence[dict[str, Any]], samples: int, seed: int
) -> dict[str, Any]:
    counts = [(measure["correct"], measure["n"]) for measure in measures]
    chance = sum(task["chance_per_item"] for task in tasks) / len(tasks)
    found = statistics.macro_interval(counts, samples=samples, seed=seed)
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "standard_error": statistics.macro_standard_error(counts),
        "tasks": len(tasks),
        "chance": chance,
        "chance_corrected": _corrected(found, chance),
    }
