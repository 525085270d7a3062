"""Run folders as an evaluation leaves them, from a table of who answered what."""

import json
import re

from jaxablate.core.files import digest, write_json
from jaxablate.runs import statistics

SETTINGS = {"samples": 200, "seed": 0}


def write_run(
    folder,
    answers,
    *,
    choices=2,
    status="done",
    leaky=(),
    config=None,
    data="rows",
    source=None,
    more=None,
):
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
    manifest |= {} if source is None else {"source": source}
    write_json(folder / "manifest.json", manifest | (more or {}))
    if status != "done":
        return folder
    (folder / "records").mkdir()
    results = [
        _result(folder, mask, found, choices, mask in leaky) for mask, found in answers.items()
    ]
    write_json(folder / "metrics.json", {"format": 1, "results": results})
    return folder


def write_finetune(
    folder,
    losses,
    *,
    mask="prefix_lm",
    planned=40,
    stopped="",
    leaky=(),
    decode=None,
    name=lambda text: text,
    status="done",
    more=None,
):
    """`losses[mask]` are held-out losses at steps 0, 10, 20...; `decode[mask]` (one pass, token by
    token) of the last step. Training loss falls by 0.01 a step from 3."""
    folder.mkdir(parents=True)
    config = {"checkpoint": "some/model", "mask": mask, "steps": planned, "note": name("setting")}
    manifest = {
        "id": folder.name,
        "kind": "finetune",
        "status": status,
        "config": config,
        "fingerprint": digest(config),
        "source": {"path": "/somewhere/some/model", "weights": "w" * 64, "revision": name("rev")},
        "tokenizer": name("tokenizer"),
        "attempts": [{"attempt": 1, "started": "2026-01-01T00:00:00Z", "reason": "killed"}],
        "environment": {"git": {"commit": name("c")}, "packages": {name("jax"): name("1")}},
    }
    write_json(folder / "manifest.json", manifest | (more or {}))
    if status != "done":
        return folder
    done = 10 * (max(map(len, losses.values()), default=1) - 1)
    lines = [
        {"step": step, "kind": "train", "loss": 3 - step / 100, "tokens": 64}
        for step in range(1, done + 1)
    ]
    for key, values in losses.items():
        for index, loss in enumerate(values):
            entry = {"step": 10 * index, "kind": "eval", "mask": key, "loss": loss}
            entry |= {"targets": 50, "leaky": key in leaky}
            if decode and key in decode and index == len(values) - 1:
                one, slow = decode[key]
                entry |= {"decode_loss": slow, "teacher_loss": one, "decode_targets": 20}
            lines.append(entry)
    lines.sort(key=lambda entry: entry["step"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    alarm = {"step": 3, "rule": name("rule"), "sentence": name("alarm")}
    summary = {
        "format": 1,
        "stop_reason": stopped or "finished",
        "stopped": bool(stopped),
        "sentence": name("a sentence about the end"),
        "steps_done": done,
        "steps_planned": planned,
        "mask": mask,
        "leaky": mask in leaky,
        "alarms": [alarm] if stopped else [],
        "data": {"train": {"digest": name("data digest"), "rows": 100}},
        "tokens_seen": 64 * done,
        "targets_seen": 32 * done,
        "parameters": {"trained": 1200, "frozen": 34000},
        "checkpoints": {
            "last": f"checkpoints/step-{done:08d}",
            "chosen": "checkpoints/step-00000010",
        },
        "rates": {"tokens_per_s": 12345.678},
    }
    write_json(folder / "summary.json", summary)
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
    name = f"{task}.{mask}"
    file = f"records/{name if re.fullmatch('[a-z_.]+', name) else digest(name)}.jsonl"
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
