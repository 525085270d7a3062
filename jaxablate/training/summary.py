"""What summary.json says of a run: how far it came, why it ended, what it reached."""

from typing import Any

from jaxablate.checkpoints.step_folder import name_of
from jaxablate.checkpoints.steps import StepStore
from jaxablate.runs.stop_rules import StopRules
from jaxablate.training.progress import Progress
from jaxablate.training.setup import Setup
from jaxablate.training.speed import Speed

FORMAT = 1


def summarise(
    setup: Setup, progress: Progress, rules: StopRules, store: StepStore, speed: Speed
) -> dict[str, Any]:
    """The summary as plain values; everything but `rates` is a function of config and data."""
    config = setup.config
    reason = progress.reason or "finished"
    stopped = reason != "finished"
    sentence = rules.sentence(reason) if stopped else f"all {config.steps} steps done"
    return {
        "format": FORMAT,
        "stop_reason": reason,
        "stopped": stopped,
        "sentence": sentence,
        "steps_done": progress.step,
        "steps_planned": config.steps,
        "mask": config.mask,
        "eval_masks": list(config.loss_masks),
        "leaky": setup.leaky,
        "alarms": rules.alarms,
        "data": setup.data.facts,
        "tokens_seen": progress.tokens,
        "targets_seen": progress.targets,
        "parameters": setup.parameters,
        "final": {"train_loss": progress.train_loss, "evals": _evals(setup, progress)},
        "best": rules.best and {**rules.best, "mask": config.loss_masks[0]},
        "checkpoints": _checkpoints(setup, rules, store),
        "rates": speed.totals(),
    }


def _evals(setup: Setup, progress: Progress) -> dict[str, Any]:
    names = setup.config.loss_masks
    return {name: progress.evals[name] for name in names if name in progress.evals}


def _checkpoints(setup: Setup, rules: StopRules, store: StepStore) -> dict[str, Any]:
    steps = store.steps()
    names = {step: f"{store.folder.name}/{name_of(step)}" for step in steps}
    best = names.get(rules.best["step"]) if rules.best else None
    last = names[steps[-1]] if steps else None
    chosen = best if setup.config.use == "best" and best else last
    return {"last": last, "best": best, "chosen": chosen}
