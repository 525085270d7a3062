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


def made_by(folder, *, stopped="", mask="prefix_lm"):
    """The `source` of an evaluation of what a finetuning run made."""
    return {
        "format": "jaxablate-finetuned",
        "path": str(folder),
        "run": folder.name,
        "step": 10,
        "mask": mask,
        "weights": "f" * 64,
        "base": {"path": "/somewhere/some/model", "weights": "w" * 64},
        "stop_reason": stopped or "finished",
    }


def answers_of(rate, *, items=400, tasks=("piqa", "arc"), shift=0):
    """Answers of which a share is right; nested, so that a higher rate answers more rightly."""
    order = [(7 * index + shift) % items for index in range(items)]
    return {task: [place < rate * items for place in order] for task in tasks}


RATES = {
    "base": {"causal": 0.9, "prefix_lm": 0.6, "full": 0.95},
    "sft_causal": {"causal": 0.91, "prefix_lm": 0.7, "full": 0.95},
    "sft_prefix": {"causal": 0.88, "prefix_lm": 0.85, "full": 0.97},
}
CRITERIA = {
    "recovery": 0.8,
    "gain": 0.05,
    "regression_margin": 0.02,
    "tuned": "sft_prefix",
    "mask": "prefix_lm",
    "baseline_mask": "causal",
}


def write_experiment(
    root, *, rates=None, stopped=None, name=lambda text: text, more=None, extras=True
):
    """An experiment with a base, two arms, a dose and a sweep.

    `rates[model][mask]` are shares of right answers; `stopped[model]` the rule that ended it;
    `name` makes every text of a file; `more` is added to all manifests.
    """
    rates, stopped = rates or RATES, stopped or {}
    root.mkdir(parents=True)
    stages = []

    def add(stage, kind, model, **entry):
        title = name(f"the stage {stage}")
        run = f"{stage}-{digest(stage)[:6]}"
        entry = {"model": model and shown(model), "run": run, "needs": [], "title": title, **entry}
        stages.append({"name": shown(stage), "kind": kind, **entry})
        return root / run

    def shown(model):
        return model if model == "base" else name(model)

    def masks(table):
        return {name(mask): value for mask, value in table.items()}

    def told(**facts):
        return {name(key): name(value) for key, value in facts.items()}

    leaky = (name("full"),)
    folders = {}
    if extras:
        add("made", "model", None)
    for model in rates:
        if model == "base":
            continue
        mask = "causal" if model.endswith("causal") else "prefix_lm"
        folder = add(model, "finetune", "base")
        rule = stopped.get(model, "")
        losses = masks(
            {"causal": [2.5, 2.2, 2.0], "prefix_lm": [2.9, 2.3, 2.1], "full": [2, 1, 0.5]}
        )
        decode = masks({"causal": (2.0, 2.001), "prefix_lm": (2.1, 2.099), "full": (0.5, 2.2)})
        settings = {"decode": decode, "leaky": leaky, "stopped": rule and name(rule), "name": name}
        planned = 40 if rule else 20
        write_finetune(folder, losses, mask=name(mask), planned=planned, more=more, **settings)
        folders[model] = made_by(folder, stopped=rule and name(rule))
    for model, table in rates.items():
        folder = add(f"score_{model}", "evaluate", model)
        found = {
            name(mask): {
                name(task): right
                for task, right in answers_of(rate, shift=3 if mask == "causal" else 0).items()
            }
            for mask, rate in table.items()
        }
        source = folders.get(model, {"path": "x", "weights": "w" * 64})
        checkpoint = source["path"]
        write_run(
            folder,
            found,
            leaky=leaky,
            source=source,
            more=more,
            config={"checkpoint": checkpoint, "data": "/far/away/data", **told(a="b")},
        )
    if extras:
        _write_extras(root, add, name, leaky, more)
    criteria = {
        key: name(value) if key in ("tuned", "mask", "baseline_mask") else value
        for key, value in CRITERIA.items()
    }
    experiment = {
        "format": 1,
        "name": name("An experiment"),
        "stages": stages,
        "criteria": criteria,
        "fingerprint": name("e" * 64),
    }
    write_json(root / "experiment.json", experiment)
    return root


def _write_extras(root, add, name, leaky, more):
    counts = [0, 1, 2]
    levels = [name(f"dose {count}") for count in counts]
    dose = {"axis": name("layers"), "counts": counts, "masks": levels}
    folder = add("dose", "evaluate", "base", dose=dose)
    found = {
        level: {name(task): right for task, right in answers_of(0.9 - 0.1 * count).items()}
        for level, count in zip(levels, counts, strict=True)
    }
    write_run(folder, found, source={"weights": "w" * 64}, more=more)
    for value in (1e-4, 1e-5):
        sweep = {"setting": name("schedule.peak"), "value": value, "group": name("rates")}
        folder = add(f"rate_{value:g}", "finetune", "base", sweep=sweep)
        losses = {name("prefix_lm"): [2.9, 2.9 - 1e4 * value, 2.95 - 1e4 * value]}
        write_finetune(
            folder, losses, mask=name("prefix_lm"), planned=20, leaky=leaky, name=name, more=more
        )


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
