"""What an experiment's YAML says: a checkpoint, defaults, criteria, and stages by name.

name: ministral3_3b
checkpoint: mistralai/Ministral-3-3B-Instruct-2512
seeds: [0, 1, 2]                               # optional: every finetuning once for each
evaluate: {tasks: [piqa], limit: 500}          # defaults of every evaluation
finetune: {steps: 1200, schedule: {peak: 2e-5}}  # defaults of every finetuning
stages:
  stage1: {kind: evaluate, masks: [causal]}
  stage3b: {kind: finetune, mask: prefix_lm}
  stage4: {kind: evaluate, model: stage3b, masks: [prefix_lm]}
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from jaxablate.core.config import build, operational
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.settings import Settings
from jaxablate.masks.parse import parse

BASE = "base"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """When finetuning counts as a success.

    Attributes:
        tuned: the finetuning stage that is judged.
        mask: what it is judged under; the mask that took skill from the base model.
        baseline_mask: under which the base model has its full skill.
        recovery: least macro accuracy of the tuned model under `mask`, as a share of the base
            model's under `baseline_mask`.
        gain: least rise of macro accuracy under `mask` over the base model under `mask`.
        regression_margin: most that the tuned model may lose under `baseline_mask`.
    """

    tuned: str
    mask: str = "prefix_lm"
    baseline_mask: str = "causal"
    recovery: float = 0.8
    gain: float = 0.05
    regression_margin: float = 0.05

    def __post_init__(self) -> None:
        for text in (self.mask, self.baseline_mask):
            parse(text)
        for name in ("recovery", "gain", "regression_margin"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"criteria.{name} must be in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """An experiment as it is written; its stages are still tables.

    Attributes:
        name: heading of the report.
        stages: name to table: `kind`, `model`, `needs`, `title`, and the kind's own settings.
        checkpoint: what `model: base` means: folder, hub id, or a stage that makes a model.
        criteria: when finetuning counts as a success.
        seeds: every finetuning, and what works on what it made, is run once for each. They are the
            `seed` of finetuning (order of data, LoRA's start, dropout, rounding); which records
            are learned and held out (`data.seed`) stays the same. Empty: once, with its own seed.
        evaluate: defaults of every evaluation, any field of `EvalConfig`.
        finetune: defaults of every finetuning, any field of `FinetuneConfig`.
        runs: folder of the experiment; empty is `runs/<name>`.
    """

    name: str
    stages: dict
    checkpoint: str
    criteria: Criteria | None = None
    seeds: tuple[int, ...] = ()
    evaluate: dict = field(default_factory=dict)
    finetune: dict = field(default_factory=dict)
    runs: str = operational("")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name, re.ASCII):
            raise UserError(f"name is made of letters, digits, '.', '_', '-', got {self.name!r}")
        if not self.stages:
            raise UserError("at least one stage is needed, got none")
        if min(self.seeds, default=0) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds are different numbers >= 0, got {list(self.seeds)}")


@dataclass(frozen=True)
class Stage:
    """One stage as it is written.

    Attributes:
        name: its name.
        kind: entry of `experiments.stage.KINDS`.
        model: stage whose checkpoint it works on, or "base"; empty where nothing is written.
        needs: further stages that come first.
        title: heading in the report; empty makes one.
        settings: everything else in its table, without defaults.
    """

    name: str
    kind: str
    model: str
    needs: tuple[str, ...]
    title: str
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class _Common:
    """The settings that every stage has."""

    kind: str
    model: str = ""
    needs: tuple[str, ...] = ()
    title: str = ""


COMMON = tuple(item.name for item in fields(_Common))


def read_experiment(settings: Settings) -> tuple[ExperimentConfig, list[Stage]]:
    """The experiment in settings, and its stages in the order in which they are written.

    Raises:
        UserError: that names the setting, and file and line where they are known.
    """
    for name in ("stages", "evaluate", "finetune"):
        value = settings.values.get(name, {})
        if not isinstance(value, dict):
            raise _not_a_table(settings, name, value)
    config = build(ExperimentConfig, settings)
    return config, [_read_stage(settings, name) for name in config.stages]


def table(settings: Settings, path: str) -> Settings:
    """The settings below a dotted path; empty when there are none."""
    values = settings.values
    for part in path.split("."):
        values = values.get(part, {})
    size = len(path) + 1
    sources = settings.provenance.items()
    return Settings(values, {k[size:]: v for k, v in sources if k.startswith(f"{path}.")})


def only(settings: Settings, names: Mapping[str, object] | tuple[str, ...]) -> Settings:
    """The settings whose first word is among `names`."""
    values = {name: value for name, value in settings.values.items() if name in names}
    sources = settings.provenance.items()
    return Settings(values, {path: v for path, v in sources if path.partition(".")[0] in names})


def without(settings: Settings, names: tuple[str, ...]) -> Settings:
    """The settings whose first word is not among `names`."""
    return only(settings, tuple(name for name in settings.values if name not in names))


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Puts `what` before the message of a `UserError` from inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def _read_stage(settings: Settings, name: str) -> Stage:
    found = settings.values["stages"][name]
    if not isinstance(found, dict):
        raise _not_a_table(settings, f"stages.{name}", found)
    if not _NAME.fullmatch(name) or name == BASE:
        raise UserError(
            f"a stage's name is made of a-z, 0-9 and _ and begins with a letter ({BASE!r} is the "
            f"checkpoint itself), got {name!r}"
        )
    own = table(settings, f"stages.{name}")
    with naming(f"stage {name!r}"):
        common = build(_Common, only(own, COMMON))
    rest = without(own, COMMON)
    return Stage(name, common.kind, common.model, common.needs, common.title, rest)


def check_keys(settings: Settings, known: tuple[str, ...], what: str) -> None:
    """Raise `UserError` for the first key that is not among `known`."""
    for key in settings.values:
        if key not in known:
            source = settings.source(key)
            where = f"{source}: " if source else ""
            raise UserError(f"{where}{unknown(what, key, known)}")


def _not_a_table(settings: Settings, path: str, value: object) -> UserError:
    source = settings.source(path)
    where = f"{source}: " if source else ""
    return UserError(f"{where}setting {path!r} must be a table, got {value!r:.80}")
