"""Run folders as an evaluation leaves them, from a table of who answered what."""

import json

from jaxablate.core.files import digest, write_json
from jaxablate.runs import statistics

SETTINGS = {"samples": 200, "seed": 0}


def write_run(folder, answers, *, choices=2, status="done", leaky=(), config=None, data="rows"):
    """`answers[mask][task]` is a list of right and wrong; label 0, wrong answers are choice 1."""
    folder.mkdir(parents=True)
    config = {
        "checkpoint": "some/model",
        "masks": list(answers),
        "variant": "standard",
        "bootstrap_samples": SETTINGS["samples"],
        "seed": SETTINGS["seed"],
        **(config or {}),
    }
    tasks = list(next(iter(answers.values())))
    manifest = {
        "id": folder.name,
        "kind": "evaluate",
        "status": status,
        "config": config,
        "fingerprint": digest(config),
        "weights": "w" * 64,
        "data": {
            task: {"digest": f"{data} of {task}", "rows": 4, "rows_in_split": 9} for task in tasks
        },
        "attempts": [{"attempt": 1, "status": status, "reason": "KeyboardInterrupt"}],
        "environment": {
            "git": {"commit": "c" * 40, "changed": True},
            "packages": {"jax": "0.10.2"},
        },
        "scorers": {
            mask: {
                "prompt": "shared",
                "kernels": {
                    "256": [{"kernel": "xla", "mask_kind": "dense", "declined": {"a": "b"}}]
                },
            }
            for mask in answers
        },
    }
    write_json(folder / "manifest.json", manifest)
    if status != "done":
        return folder
    (folder / "records").mkdir()
    results = [
        _result(folder, mask, found, choices, mask in leaky) for mask, found in answers.items()
    ]
    write_json(folder / "metrics.json", {"format": 1, "results": results})
    return folder


def _result(folder, mask, answers, choices, leaky):
    tasks = [_task(folder, mask, task, right, choices) for task, right in answers.items()]
    counts = [(sum(right), len(right)) for right in answers.values()]
    macro = _estimate(statistics.macro_interval(counts, **SETTINGS), 1 / choices)
    return {
        "name": mask,
        "mask": mask,
        "leaky": leaky,
        "leak": "a sentence about the leak",
        "tasks": tasks,
        "macro": {"primary": {**macro, "chance": 1 / choices}},
    }


def _task(folder, mask, task, right, choices):
    file = f"records/{task}.{mask}.jsonl"
    records = [
        {"id": f"validation/{i}", "label": 0, "predictions": {"acc": 0 if good else 1}}
        for i, good in enumerate(right)
    ]
    (folder / file).write_text("".join(json.dumps(record) + "\n" for record in records))
    correct, total = sum(right), len(right)
    found = _estimate(statistics.accuracy_interval(correct, total, **SETTINGS), 1 / choices)
    p_value = statistics.chance_p_value(correct, {1 / choices: total})
    verdict = "above chance" if correct / total > 1 / choices else "below chance"
    measure = {
        **found,
        "n": total,
        "correct": correct,
        "ties": 3,
        "choices": [correct, total - correct],
        "verdict": verdict if p_value < 0.05 else "not distinguishable from chance",
    }
    return {
        "task": task,
        "accuracy_by": "acc",
        "chance_per_item": 1 / choices,
        "measures": {"acc": measure},
        "records": file,
        "labels": [total, 0],
    }


def _estimate(found, chance):
    value, low, high = found
    corrected = {
        name: statistics.chance_corrected(end, chance)
        for name, end in zip(("value", "low", "high"), found, strict=True)
    }
    return {"value": value, "low": low, "high": high, "chance_corrected": corrected}
