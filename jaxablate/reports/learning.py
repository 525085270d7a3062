"""Training runs as tables and curves: steps, stop reasons, held-out losses, leakage gaps."""

from collections.abc import Sequence
from dataclasses import replace

from jaxablate.reports.charts import Series, line_chart, thinned, value_range
from jaxablate.reports.experiment_view import Curves, Loss, SeedRow, Text, Training
from jaxablate.reports.finetune import Evaluation, FinetuneRun
from jaxablate.reports.study import Model
from jaxablate.reports.text_sources import TextSource, text_sources

TRAINING_LOSS = "training loss"
DECODED = "{mask}, token by token"


def finished(models: Sequence[Model]) -> list[tuple[Model, FinetuneRun]]:
    """Trained models whose run is done."""
    return [(model, model.run) for model in models if model.run and model.run.summary]


def training(models: Sequence[Model]) -> tuple[Training, ...]:
    """The table of trainings; several seeds are one."""
    return tuple(_training(model, run) for model, run in finished(models))


def seeds(models: Sequence[Model]) -> tuple[SeedRow, ...]:
    """Every seed of what was trained several times."""
    return tuple(
        _seed_row(model, seed, run)
        for model in models
        for seed, run in model.members
        if run.summary
    )


def _seed_row(model: Model, seed: int, run: FinetuneRun) -> SeedRow:
    named = replace(model, name=f"{model.name}, seed {seed}", run=run, members=())
    mask = steering(run)
    measured = run.measured(mask)
    return SeedRow(
        training=_training(named, run),
        mask=mask,
        best=run.best(mask),
        last=measured[-1] if measured else None,
    )


def _training(model: Model, run: FinetuneRun) -> Training:
    told = run.summary
    counts = told["parameters"]
    losses = [loss for _, loss in run.train if loss is not None]
    return Training(
        model=model,
        mask=told["mask"],
        leaky=told["leaky"],
        steps=steps(run),
        reason=told["stop_reason"],
        trained=counts["trained"],
        total=counts["trained"] + counts["frozen"],
        tokens=_count(told.get("tokens_seen")),
        targets=_count(told.get("targets_seen")),
        train_loss=losses[-1] if losses else None,
        used=run.chosen_step,
        alarms=tuple(f"step {alarm['step']}: {alarm['sentence']}" for alarm in told["alarms"]),
    )


def _count(found: object) -> int | None:
    return found if isinstance(found, int) else None


def steps(run: FinetuneRun) -> str:
    """Steps done of those planned."""
    return f"{run.summary['steps_done']} / {run.summary['steps_planned']}"


def texts(models: Sequence[Model]) -> tuple[Text, ...]:
    """What each pretraining learned from."""
    found = [(model, run, text_sources(run)) for model, run in finished(models)]
    return tuple(
        Text(model=model, sources=sources, epochs=_epochs(run, sources))
        for model, run, sources in found
        if sources
    )


def _epochs(run: FinetuneRun, sources: Sequence[TextSource]) -> float:
    epoch = sum(one.repeat * one.learned for one in sources)
    return run.summary.get("tokens_seen", 0) / epoch


def losses(models: Sequence[Model]) -> tuple[Loss, ...]:
    """The table of held-out losses: every run under every mask that it was measured under."""
    return tuple(_loss(model, run, mask) for model, run in finished(models) for mask in run.masks)


def _loss(model: Model, run: FinetuneRun, mask: str) -> Loss:
    measured = run.measured(mask)
    decoded = [one for one in measured if one.gap is not None]
    return Loss(
        model=model,
        mask=mask,
        leaky=any(one.leaky for one in measured),
        first=measured[0],
        best=run.best(mask),
        last=measured[-1],
        decoded=max(decoded, key=lambda one: (one.leaked, one.step), default=None),
    )


def curves(models: Sequence[Model]) -> tuple[Curves, ...]:
    """Losses by step, one chart a run; a mask keeps its colour in all of them.

    All finetunings have one scale; pretrainings and leaky controls have each another.
    """
    runs = [(model, run) for model, run in finished(models) if model.sweep is None]
    masks = list(dict.fromkeys(mask for _, run in runs for mask in run.masks))
    drawn = [(model, run, _series(run, masks)) for model, run in runs]
    scales = {
        kind: value_range([one for _, run, s in drawn if _scale(run) == kind for one in s])
        for kind in dict.fromkeys(_scale(run) for _, run, _ in drawn)
    }
    found = []
    for model, run, series in drawn:
        chart = line_chart(
            f"Loss of {model.name}",
            series,
            x_label=_step(run),
            y_label="nats a token",
            y_range=scales[_scale(run)],
        )
        if chart:
            found.append(Curves(model=model, chart=chart, masks=run.masks, rows=_rows(run)))
    return tuple(found)


def _scale(run: FinetuneRun) -> tuple[bool, bool]:
    """A pretraining falls and a leak moves so far that others would be flat lines beside them."""
    return run.from_nothing, bool(run.summary["leaky"])


def _step(run: FinetuneRun) -> str:
    """What a step is: rows of a pretraining are packed, so all steps read nearly as much."""
    if not run.from_nothing:
        return "step"
    size = run.summary.get("tokens_seen", 0) / max(1, run.summary["steps_done"])
    return f"step of {size:,.0f} tokens"


def _series(run: FinetuneRun, masks: Sequence[str]) -> list[Series]:
    found = [Series(label=TRAINING_LOSS, points=thinned(run.train), quiet=True, dots=False)]
    for mask in run.masks:
        measured, colour = run.measured(mask), masks.index(mask)
        leaky = any(one.leaky for one in measured)
        points = tuple((one.step, one.loss) for one in measured)
        decoded = tuple((one.step, one.decode) for one in measured)
        bars = tuple((one.step, min(one.seeds), max(one.seeds)) for one in measured if one.seeds)
        found.append(Series(label=mask, points=points, colour=colour, hollow=leaky, intervals=bars))
        if any(loss is not None for _, loss in decoded):
            label = DECODED.format(mask=mask)
            found.append(
                Series(label=label, points=decoded, colour=colour, dashed=True, hollow=leaky)
            )
    return found


def _rows(run: FinetuneRun) -> tuple[tuple[int, tuple[Evaluation | None, ...]], ...]:
    at = {(one.step, one.mask): one for one in run.evaluations}
    steps = sorted({one.step for one in run.evaluations})
    return tuple((step, tuple(at.get((step, mask)) for mask in run.masks)) for step in steps)


def steering(run: FinetuneRun) -> str:
    """The training mask if the loss was measured under it, else the first mask."""
    own = run.summary["mask"]
    return own if own in run.masks or not run.masks else run.masks[0]
