"""kind: evaluate. Multiple-choice tasks under one or more masks, or under doses of a mask.

stage2: {kind: evaluate, model: base, masks: [prefix_lm]}
rates_scored: {kind: evaluate, model: rates, masks: [prefix_lm]}   # each value of a sweep
dose: {kind: evaluate, model: stage3b, dose: {axis: layers, mask: prefix_lm, counts: all}}
"""

import dataclasses
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxablate.core.config import build, relevant
from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json
from jaxablate.core.settings import Settings, merge
from jaxablate.data.sources import find_file, source
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.task import find_task
from jaxablate.experiments.dose import Dose
from jaxablate.experiments.guard import refuse_leak
from jaxablate.experiments.job import Hooks, Job
from jaxablate.experiments.spec import BASE, Stage, table
from jaxablate.experiments.stage import KINDS, Bench, Kind
from jaxablate.experiments.stages.finetune import FinetuneJob
from jaxablate.experiments.stages.sweep import label
from jaxablate.runs.folder import MANIFEST


@dataclass(frozen=True, kw_only=True)
class EvaluateJob(Job):
    """One evaluation. With a dose of all layers, its masks are known when the model is."""

    kind = "evaluate"
    config: EvalConfig
    dose: Dose | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Config and dose."""
        dose = {"dose": dataclasses.asdict(self.dose)} if self.dose else {}
        return {**super().identity, **dose}

    def default_title(self) -> str:
        """Model and masks, or what is counted."""
        if self.dose:
            return f"{self.model} with {self.dose.mask} in the first k {self.dose.axis}"
        return super().default_title()

    @property
    def masks(self) -> str:
        """The masks, or the dose in words."""
        if self.dose is None:
            return ", ".join(self.config.masks)
        counts = self.dose.counts
        levels = ", ".join(map(str, counts)) if counts else "none to all"
        return f"{self.dose.mask} in {levels} {self.dose.axis}, else {self.dose.other}"

    def wanted(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Config of this job's run; how many masks a dose of all has depends on the model."""
        masks = config.get("masks")
        if self.dose is None or self.dose.counts or not isinstance(masks, list):
            return super().wanted(config)
        return {**self.identity["config"], "masks": list(self.dose.masks(len(masks) - 1))}

    def check(self) -> None:
        """Masks, and whether the data is there."""
        sizes = self.source.sizes() if self.source else None
        if self.dose and sizes:
            self.dose.masks(sizes[self.dose.axis])
        if not self.config.allow_leaky:
            texts = (self.dose.mask, self.dose.other) if self.dose else self.config.masks
            for text in texts:
                refuse_leak(text)
        _check_data(self.config)

    def execute(self, hooks: Hooks) -> None:
        """Load the model and evaluate it."""
        from jaxablate.evaluation import runner

        config = self.placed()
        lm = runner.load_model(config)
        if self.dose:
            total = {"layers": lm.config.num_layers, "heads": lm.config.num_heads}[self.dose.axis]
            config = dataclasses.replace(config, masks=self.dose.masks(total))
        runner.evaluate(lm, config, provenance=self.provenance, progress=hooks.progress())

    def settings(self) -> dict[str, Any]:
        """Every setting, the dose in place of its masks."""
        found = super().settings()
        if self.dose:
            del found["masks"]
            found["dose"] = relevant(self.dose)
        return found

    def entry(self) -> dict[str, Any]:
        """The job in experiment.json, with what the masks of a dose stand for."""
        entry = super().entry()
        if self.dose and (self.path / MANIFEST).exists():
            masks = read_json(self.path / MANIFEST)["config"]["masks"]
            counts = list(self.dose.levels(len(masks) - 1))
            entry["dose"] = {**dataclasses.asdict(self.dose), "counts": counts, "masks": masks}
        return entry


class Evaluate(Kind):
    """One evaluation of one model, or of each value of a sweep."""

    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """One job for each checkpoint that its model stands for: a sweep makes several."""
        settings = bench.settings(stage, "evaluate", ("dose",), EvalConfig)
        dose = _read_dose(stage)
        if dose:
            # The masks of all layers are known when the model is; till then one stands for them.
            masks = list(dose.masks()) if dose.counts else [dose.other]
            origin = stage.settings.source("dose") or "dose"
            settings = merge(settings, Settings({"masks": masks}, {"masks": origin}))
        makers = bench.makers(stage.model or BASE)
        return tuple(
            bench.job(
                EvaluateJob,
                stage,
                settings,
                EvalConfig,
                maker=maker,
                dose=dose,
                **_of_value(stage, maker),
            )
            for maker in makers
        )


KINDS.register("evaluate")(Evaluate())


def _of_value(stage: Stage, maker: Job | None) -> dict[str, str]:
    """Name and title of the evaluation of one value of a sweep; else nothing."""
    sweep = maker.sweep if isinstance(maker, FinetuneJob) else {}
    if not sweep:
        return {}
    words = f"{stage.title}, {sweep['setting']} {sweep['value']}" if stage.title else ""
    return {"name": f"{stage.name}-{label(sweep['value'])}", "title": words}


def _check_data(config: EvalConfig) -> None:
    folder = config.data_folder
    names = [find_task(name).data for name in config.tasks]
    stored = [name for name in names if not source(name).made]
    if folder is None:
        if stored and importlib.util.find_spec("datasets") is None:
            raise UserError("data 'hub' needs the extra 'data' (pip install jaxablate[data])")
        return
    for name in stored:
        find_file(folder, name, config.split)


def _read_dose(stage: Stage) -> Dose | None:
    values = stage.settings.values
    if "dose" not in values:
        return None
    if "masks" in values:
        raise UserError("give masks or a dose, not both")
    settings = table(stage.settings, "dose")
    if settings.values.get("counts") == "all":
        settings.values["counts"] = []
    return build(Dose, settings)
