"""What others published, each number beside what an experiment of the same design measured.

`jaxablate report STUDY --beside FILE`; the file says what to show, never a measured number:

    title: What went wrong
    intro: Their models had 3 billion parameters, ours has 28 million. Compare the pattern.
    claims:
      - claim: A prompt read both ways keeps half of the accuracy
        source: first system, evaluation tables
        published: {causal: "0.695", ablated: "0.356"}
        measured:
          - {label: untouched, model: base, mask: prefix_lm}
          - {label: of its skill above chance, model: base, mask: prefix_lm, what: kept}
          - {label: trained with the leak, model: leak, mask: full_bidirectional, what: last_loss}
        cause: The score leaked. What collapsed was not the skill of reading a prompt both ways.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from jaxablate.core.config import build
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.settings import read_yaml
from jaxablate.reports.compare import macro, macro_difference, task_results
from jaxablate.reports.finetune import Evaluation
from jaxablate.reports.matrix import Matrix, meaningful
from jaxablate.reports.pairs import Cell
from jaxablate.reports.study import BASE, Model, Study
from jaxablate.reports.view import Beside, Estimate, Measured, Told

T = TypeVar("T")
SCORES = ("accuracy", "kept", "recovery")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which number of the experiment to show.

    Attributes:
        label: what it is, in the reader's words.
        model: a model of the report; `base` is the untouched one.
        mask: the mask under which it was scored or its held-out loss was measured.
        what: accuracy; kept (share of the baseline's skill above chance); recovery (share of its
            accuracy); the first, last or lowest held-out loss in one pass, in nats a token; or how
            much lower the last one is than that of the same tokens read one by one (leakage_gap).
        task: of a score: one task; empty is the mean over tasks.
    """

    label: str
    mask: str
    model: str = BASE
    what: Literal[
        "accuracy", "kept", "recovery", "first_loss", "last_loss", "lowest_loss", "leakage_gap"
    ] = "accuracy"
    task: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published claim with its numbers, what stands beside them, and what explains them."""

    claim: str
    source: str
    cause: str
    published: dict[str, str] = field(default_factory=dict)
    measured: list[Wanted] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Published:
    """The file."""

    title: str
    claims: list[Claim]
    intro: str = ""


def read_published(path: str | Path) -> Published:
    """The file; raises `UserError` for a key that is unknown or missing."""
    return build(Published, read_yaml(path))


def beside(published: Published, study: Study, matrix: Matrix) -> Beside:
    """Every claim with the experiment's numbers.

    Raises:
        UserError: for a model, mask or task that the experiment has not, or a number not measured.
    """
    claims = tuple(
        Told(
            claim=one.claim,
            source=one.source,
            cause=one.cause,
            published=tuple(one.published.items()),
            measured=tuple(_measured(wanted, study, matrix) for wanted in one.measured),
        )
        for one in published.claims
    )
    return Beside(title=published.title, intro=published.intro, claims=claims)


def _measured(wanted: Wanted, study: Study, matrix: Matrix) -> Measured:
    models = {model.name: model for model in study.models}
    model = _known("model", wanted.model, models)
    score = wanted.what in SCORES
    return _score(wanted, matrix) if score else _loss(wanted, model)


def _score(wanted: Wanted, matrix: Matrix) -> Measured:
    cells = {
        name: cell
        for cell in (*matrix.cells, *matrix.others)
        if cell.condition.model == wanted.model
        for name in (cell.condition.mask, cell.condition.algebra)
    }
    cell = _known(f"mask under which {wanted.model} was scored", wanted.mask, cells)
    value, chance = _score_of(wanted, cell, matrix)
    return Measured(
        label=wanted.label,
        what=wanted.what,
        value=value,
        leaky=cell.condition.leaky,
        runs=tuple(run.id for run, _ in cell.every),
        chance=chance,
    )


def _score_of(wanted: Wanted, cell: Cell, matrix: Matrix) -> tuple[Estimate, float | None]:
    if wanted.what == "accuracy":
        tasks = {result.task: result for result in task_results(cell)}
        result = _known("task", wanted.task, tasks) if wanted.task else macro(cell)
        return result.accuracy, result.chance
    if wanted.task:
        raise _refused(wanted, f"is over all tasks, got task {wanted.task!r}")
    base = matrix.baseline
    if base is None or cell is base or cell.condition.leaky:
        raise _refused(wanted, "needs an honest score and another baseline")
    found = meaningful(macro_difference(cell, base))
    value = found.retention if wanted.what == "kept" else found.recovery
    if value is None:
        raise _refused(wanted, "has no meaning: the baseline is at chance")
    return value, None


def _loss(wanted: Wanted, model: Model) -> Measured:
    run = model.run
    if run is None:
        raise _refused(wanted, f"is not known: {model.name} was not trained here")
    masks = {mask: run.measured(mask) for mask in run.masks}
    found = _known(f"mask of the held-out loss of {model.name}", wanted.mask, masks)
    one, value = _loss_of(wanted, found)
    if value is None:
        raise _refused(wanted, f"was not measured of {model.name} under {wanted.mask}")
    one_pass = wanted.what != "leakage_gap"
    return Measured(
        label=wanted.label,
        what=f"{wanted.what.replace('_', ' ')} at step {one.step}",
        value=Estimate(value=value, seeds=one.seeds if one_pass else ()),
        leaky=one.leaky,
        runs=tuple(each.id for each in model.runs),
    )


def _loss_of(wanted: Wanted, found: list[Evaluation]) -> tuple[Evaluation, float | None]:
    if wanted.what == "leakage_gap":
        one = next((e for e in reversed(found) if e.gap is not None), found[-1])
        return one, one.gap
    if wanted.what == "lowest_loss":
        one = min(found, key=lambda e: float("inf") if e.loss is None else e.loss)
    else:
        one = found[0 if wanted.what == "first_loss" else -1]
    return one, one.loss


def _refused(wanted: Wanted, why: str) -> UserError:
    return UserError(f"{wanted.label!r}: {wanted.what} {why}")


def _known(what: str, name: str, table: Mapping[str, T]) -> T:
    if name not in table:
        raise unknown(what, name, list(table))
    return table[name]
