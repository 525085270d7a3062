"""An experiment's folder as its stages leave it, from shares of right answers."""

from jaxablate.core.files import digest, write_json
from tests.reports.folders import write_finetune, write_run


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
    root, *, rates=None, stopped=None, name=lambda text: text, more=None, extras=True, items=400
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
                for task, right in answers_of(
                    rate, items=items, shift=3 if mask == "causal" else 0
                ).items()
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
