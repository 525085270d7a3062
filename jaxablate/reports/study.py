"""Which models were trained, which runs scored them, and what was to be shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxablate.core.errors import UserError
from jaxablate.reports.finetune import FinetuneRun, finetuned_from
from jaxablate.reports.leakage import Leak
from jaxablate.reports.load import Run

BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Dose:
    """Masks of one run that differ in how many layers or heads are ablated."""

    axis: str
    counts: tuple[int, ...]
    masks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A finetuning run's place in a sweep: the setting that varies, and its value there."""

    setting: str
    value: float | int | str
    group: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """The base (no run), or what a training run made of it.

    `maker` is the training that made the base, where it belongs to the study. `members` are the
    trainings of several seeds; `run` then tells of their means.
    """

    name: str
    title: str
    run: FinetuneRun | None = None
    sweep: Sweep | None = None
    maker: FinetuneRun | None = None
    members: tuple[tuple[int, FinetuneRun], ...] = ()

    @property
    def runs(self) -> tuple[FinetuneRun, ...]:
        """The run folders behind it."""
        own = (self.run,) if self.run else ()
        return tuple(run for _, run in self.members) or own

    @property
    def stopped(self) -> str:
        """The rule that ended its training early, or empty."""
        run = self.run or self.maker
        return run.stopped if run else ""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An evaluation run and the model that it scored.

    `seed` is that of the model's training, where there are several; evaluations of one `group`
    differ in it alone.
    """

    model: Model
    run: Run
    title: str = ""
    dose: Dose | None = None
    seed: int | None = None
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What counts as success; None where nothing was declared.

    Attributes:
        recovery: least share of the baseline's accuracy after finetuning.
        gain: least gain over the ablated base.
        regression_margin: most that may be lost under the baseline's mask.
        tuned: the model that is judged.
        mask: the ablation; empty takes the first honest mask beside the baseline's.
        baseline_mask: mask of the baseline.
    """

    recovery: float | None = None
    gain: float | None = None
    regression_margin: float | None = None
    tuned: str = ""
    mask: str = ""
    baseline_mask: str = "causal"


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that a report tells of: the base first among the models.

    `places` are the names of run folders: a path into one of them is shown from there on. `leaks`
    is what probes measured.
    """

    title: str
    models: tuple[Model, ...]
    scored: tuple[Scored, ...]
    criteria: Criteria = Criteria()
    facts: tuple[tuple[str, str], ...] = ()
    places: tuple[str, ...] = ()
    leaks: tuple[Leak, ...] = ()

    @cached_property
    def main(self) -> tuple[Scored, ...]:
        """Finished evaluations that are compared: no doses, and at least one task of the first."""
        first = set(self._done[0].run.tasks) if self._done else set()
        return tuple(one for one in self._done if first & set(one.run.tasks))

    @cached_property
    def further(self) -> tuple[Scored, ...]:
        """Finished evaluations on other tasks: shown, and in no mean over tasks."""
        return tuple(one for one in self._done if one not in self.main)

    @cached_property
    def swept(self) -> tuple[Scored, ...]:
        """Finished evaluations of what a sweep made."""
        done = (one for one in self.scored if one.run.results and one.dose is None)
        return tuple(one for one in done if one.model.sweep)

    @cached_property
    def _done(self) -> tuple[Scored, ...]:
        """Finished evaluations of one model under some masks."""
        done = (one for one in self.scored if one.run.results and one.dose is None)
        return tuple(one for one in done if not one.model.sweep)

    def compares(self, model: Model) -> bool:
        """Whether a model was trained to be compared with the base."""
        run, base = model.run, self.models[0].maker
        if run is None or not run.summary or model.sweep or run.from_nothing:
            return False
        return base is None or run.id != base.id


def study_of(
    runs: Sequence[Run], finetunes: Sequence[FinetuneRun], *, title: str, baseline: str | None
) -> Study:
    """The study that loose run folders make up; an evaluation's manifest names its model.

    Raises:
        UserError: for an evaluation of a trained model whose run is not among those given.
    """
    models = {run.id: Model(name=run.id, title=run.id, run=run) for run in finetunes}
    if len(models) < len(finetunes):
        raise UserError("two of the training runs have the same name; give each of them once")
    pretrained = [run for run in finetunes if run.from_nothing]
    base = Model(name=BASE, title=BASE, maker=pretrained[0] if len(pretrained) == 1 else None)
    scored = tuple(Scored(model=_model_of(run, base, models), run=run) for run in runs)
    criteria = Criteria(baseline_mask=baseline) if baseline else Criteria()
    return Study(
        title=title,
        models=(base, *models.values()),
        scored=scored,
        criteria=criteria,
        places=tuple(run.path.name for run in (*runs, *finetunes)),
    )


def _model_of(run: Run, base: Model, models: dict[str, Model]) -> Model:
    made = finetuned_from(run.manifest)
    if made is None or (base.maker and made[0] == base.maker.id):
        return base
    if made[0] not in models:
        raise UserError(
            f"run {run.id} scored what training run {made[0]} made; give that folder too"
        )
    return models[made[0]]
