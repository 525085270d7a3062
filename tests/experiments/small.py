"""A small experiment, and stand-ins for the work of its stages that only leave run folders."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from jaxablate.core.config import relevant
from jaxablate.core.files import write_json
from jaxablate.core.settings import merge as merged
from jaxablate.core.settings import parse_yaml, read_override
from jaxablate.experiments.plan import make_plan
from jaxablate.runs.folder import RunFolder

TEXT = """
name: small
checkpoint: tiny_model
criteria: {tuned: stage3b}
evaluate: {tasks: [piqa], data: samples, limit: 4}
finetune:
  steps: 4
  rows: 2
  schedule: {peak: 1e-3, warmup_steps: 1}
  data: {folder: samples, name: instructions}
stages:
  tiny_model: {kind: model, make: tiny}
  stage1: {kind: evaluate, masks: [causal], title: Base}
  stage3b: {kind: finetune, mask: prefix_lm}
  stage4: {kind: evaluate, model: stage3b, masks: [prefix_lm]}
  dose: {kind: evaluate, model: stage3b, dose: {counts: all}}
  rates: {kind: sweep, of: stage3b, over: schedule.peak, values: [1e-5, 2e-5]}
"""


def settings(*overrides, text=TEXT):
    """The small experiment's settings."""
    found = parse_yaml(text, "small.yaml")
    for override in overrides:
        found = merged(found, read_override(override))
    return found


def plan(root, *overrides, text=TEXT):
    """The small experiment's plan."""
    return make_plan(settings(*overrides, text=text), root)


class Work:
    """Takes the place of evaluating and training. `done` lists the folders worked on, in order.

    `fail_in` names a run whose work breaks after its folder was begun.
    """

    def __init__(self):
        self.done = []
        self.fail_in = ""
        self.weights = "w" * 8

    def evaluate(self, lm, config, *, provenance, progress):
        """What `evaluation.runner.evaluate` leaves."""
        with self._run("evaluate", config, provenance) as folder:
            results = [
                {
                    "name": mask,
                    "leaky": False,
                    "macro": {"primary": {"value": 0.5, "low": 0.4, "high": 0.6}},
                }
                for mask in config.masks
            ]
            write_json(folder.path / "metrics.json", {"results": results})
            folder.finish("done")

    def finetune(self, config, *, provenance, observers):
        """What `training.finetune.finetune` leaves."""
        with self._run("finetune", config, provenance) as folder:
            summary = {
                "stop_reason": "finished",
                "steps_done": config.steps,
                "steps_planned": config.steps,
                "eval_masks": [config.mask],
                "final": {"train_loss": 2.0, "evals": {config.mask: {"loss": 1.5}}},
                "best": {"step": 2, "loss": 1.25, "mask": config.mask},
            }
            write_json(folder.path / "summary.json", summary)
            folder.finish("done")

    def _run(self, kind, config, provenance):
        from pathlib import Path

        out = Path(config.out)
        folder = RunFolder.open(
            out.parent, kind=kind, slug="x", config=relevant(config), name=out.name
        )
        if self.fail_in and out.name.startswith(self.fail_in):
            with folder:
                raise RuntimeError("the power went out")
        self.done.append(out.name.rpartition("-")[0])
        folder.note(weights=self.weights, provenance=provenance)
        return folder


@pytest.fixture
def work(monkeypatch):
    """Stand-ins in the place of all work, and of the report."""
    import sys

    work = Work()
    # It asks git, which takes longer than everything else here.
    monkeypatch.setattr("jaxablate.runs.folder.environment", dict)
    sizes = SimpleNamespace(num_layers=2, num_heads=4)
    runner = SimpleNamespace(
        load_model=lambda config: SimpleNamespace(config=sizes), evaluate=work.evaluate
    )
    training = SimpleNamespace(finetune=work.finetune)

    def write_report(root):
        page, text = root / "report.html", root / "report.md"
        text.write_text(json.dumps(json.loads((root / "experiment.json").read_text())))
        page.write_text(text.read_text())
        return page, text

    import jaxablate.evaluation

    monkeypatch.setattr(jaxablate.evaluation, "runner", runner, raising=False)
    monkeypatch.setitem(sys.modules, "jaxablate.evaluation.runner", runner)
    monkeypatch.setitem(sys.modules, "jaxablate.training.finetune", training)
    report = SimpleNamespace(write_report=write_report)
    monkeypatch.setitem(sys.modules, "jaxablate.reports.experiment", report)
    return work


__all__ = ["TEXT", "Work", "dataclasses", "plan", "settings", "work"]
