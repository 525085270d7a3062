"""Training runs as tables and curves: steps, stop reasons, held-out losses, leakage gaps."""

from collections.abc import Sequence

from jaxablate.reports.charts import Chart, Series, line_chart, thinned, value_range
from jaxablate.reports.experiment_view import Curves, Loss, SweepRow, SweepTable, Text, Training
from jaxablate.reports.finetune import Evaluation, FinetuneRun
from jaxablate.reports.study import Model
from jaxablate.reports.text_sources import TextSource, text_sources

TRAINING_LOSS = "training loss"
DECODED = "{mask}, token by token"


def finished(models: Sequence[Model]) -> list[tuple[Model, FinetuneRun]]:
    """Trained models whose run is done."""
    return [(model, model.run) for model in models if model.run and model.run.summary]


def training(models: Sequence[Model]) -> tuple[Training, ...]:
    """The table of runs."""
    return tuple(_training(model, run) for model, run in finished(models))


def _training(model: Model, run: FinetuneRun) -> Training:
    told = run.summary
    counts = told["parameters"]
    losses = [loss for _, loss in run.train if loss is not None]
    return Training(
        model=model,
        mask=told["mask"],
        leaky=told["leaky"],
        steps=_steps(run),
        reason=told["stop_reason"],
        trained=counts["trained"],
        total=counts["trained"] + counts["frozen"],
        tokens=tokens if isinstance(tokens := told.get("tokens_seen"), int) else None,
        train_loss=losses[-1] if losses else None,
        used=run.chosen_step,
        alarms=tuple(f"step {alarm['step']}: {alarm['sentence']}" for alarm in told["alarms"]),
    )


def _steps(run: FinetuneRun) -> str:
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

    All finetunings have one scale, and all pretrainings another.
    """
    runs = [(model, run) for model, run in finished(models) if model.sweep is None]
    masks = list(dict.fromkeys(mask for _, run in runs for mask in run.masks))
    drawn = [(model, run, _series(run, masks)) for model, run in runs]
    # A pretraining falls so much further that a finetuning would be a flat line beside it.
    scales = {
        kind: value_range([one for _, run, s in drawn if run.from_nothing is kind for one in s])
        for kind in (True, False)
    }
    found = []
    for model, run, series in drawn:
        chart = line_chart(
            f"Loss of {model.name}",
            series,
            x_label=_step(run),
            y_label="nats a token",
            y_range=scales[run.from_nothing],
        )
        if chart:
            found.append(Curves(model=model, chart=chart, masks=run.masks, rows=_rows(run)))
    return tuple(found)


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
        found.append(Series(label=mask, points=points, colour=colour, hollow=leaky))
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


def sweeps(models: Sequence[Model]) -> tuple[SweepTable, ...]:
    """One table and one plot a sweep: held-out loss under the training mask for each value."""
    swept = [(model, run) for model, run in finished(models) if model.sweep]
    keys = dict.fromkeys((m.sweep.group, m.sweep.setting) for m, _ in swept if m.sweep)
    return tuple(
        _sweep(
            group,
            setting,
            [
                (m, run)
                for m, run in swept
                if m.sweep and (m.sweep.group, m.sweep.setting) == (group, setting)
            ],
        )
        for group, setting in keys
    )


def _sweep(group: str, setting: str, members: list[tuple[Model, FinetuneRun]]) -> SweepTable:
    members = sorted(members, key=lambda member: _order(_value(member[0])))
    masks = dict.fromkeys(_steering(run) for _, run in members)
    rows = tuple(_sweep_row(model, run) for model, run in members)
    values = [_value(model) for model, _ in members]
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    chart = _sweep_chart(setting, numbers, rows) if len(numbers) == len(rows) > 1 else None
    return SweepTable(group=group, setting=setting, mask=", ".join(masks), chart=chart, rows=rows)


def _sweep_row(model: Model, run: FinetuneRun) -> SweepRow:
    mask = _steering(run)
    measured = run.measured(mask)
    value = _value(model)
    return SweepRow(
        model=model,
        value=value if isinstance(value, str) else f"{value:g}",
        steps=_steps(run),
        reason=run.summary["stop_reason"],
        last=measured[-1] if measured else None,
        best=run.best(mask),
    )


def _sweep_chart(setting: str, values: Sequence[float], rows: Sequence[SweepRow]) -> Chart | None:
    lowest = [row.best.loss if row.best else None for row in rows]
    last = [row.last.loss if row.last else None for row in rows]
    series = [
        Series(label="lowest held-out loss", points=tuple(zip(values, lowest, strict=True))),
        Series(
            label="last held-out loss",
            points=tuple(zip(values, last, strict=True)),
            colour=1,
            dashed=True,
        ),
    ]
    return line_chart(
        f"Held-out loss by {setting}",
        series,
        x_label=setting,
        y_label="nats a token",
        x_values=values,
        log_x=min(values) > 0,
    )


def _steering(run: FinetuneRun) -> str:
    """The training mask if the loss was measured under it, else the first mask."""
    own = run.summary["mask"]
    return own if own in run.masks or not run.masks else run.masks[0]


def _value(model: Model) -> float | int | str:
    return model.sweep.value if model.sweep else ""


def _order(value: float | int | str) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")
