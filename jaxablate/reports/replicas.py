"""Trainings that differ in their seed only, as one: means over the seeds, each kept beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxablate.reports.finetune import Evaluation, FinetuneRun
from jaxablate.reports.study import Model

Stage = Mapping[str, Any]
_COUNTS = ("tokens_seen", "targets_seen")


def grouped(models: Mapping[str, Model], stages: Sequence[Stage]) -> dict[str, Model]:
    """Name of a training to the model that stands for it: one for all seeds of a group."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        if stage.get("group") and stage["name"] in models:
            groups.setdefault(stage["group"], []).append(stage)
    found = dict(models)
    for name, members in groups.items():
        model = _of_seeds(name, models, members)
        found.update({stage["name"]: model for stage in members})
    return found


def _of_seeds(name: str, models: Mapping[str, Model], members: Sequence[Stage]) -> Model:
    runs = [(int(s.get("seed") or 0), models[s["name"]].run) for s in members]
    pairs = tuple((seed, run) for seed, run in runs if run is not None)
    first = models[members[0]["name"]]
    return replace(first, name=name, run=mean_run(pairs), members=pairs)


def mean_run(members: Sequence[tuple[int, FinetuneRun]]) -> FinetuneRun:
    """Losses as means over the finished seeds; facts are those of a stopped seed, else the first's.

    A point is kept where all of them have it. Alarms are those of all seeds.
    """
    done = [(seed, run) for seed, run in members if run.summary]
    if len(done) < 2:
        return done[0][1] if done else members[0][1]
    runs = [run for _, run in done]
    told = next((run.summary for run in runs if run.stopped), runs[0].summary)
    alarms = [
        {**alarm, "sentence": f"seed {seed}: {alarm['sentence']}"}
        for seed, run in done
        for alarm in run.summary["alarms"]
    ]
    seen = {key: _rounded([run.summary.get(key) for run in runs]) for key in _COUNTS}
    train = [dict(run.train) for run in runs]
    return replace(
        runs[0],
        summary={**told, **seen, "alarms": alarms},
        train=tuple(
            (step, _mean([losses[step] for losses in train]))
            for step in train[0]
            if all(step in losses for losses in train)
        ),
        evaluations=_evaluations(runs),
    )


def _evaluations(runs: Sequence[FinetuneRun]) -> tuple[Evaluation, ...]:
    tables = [{(one.step, one.mask): one for one in run.evaluations} for run in runs]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    return tuple(_evaluation([table[key] for table in tables]) for key in shared)


def _evaluation(ones: Sequence[Evaluation]) -> Evaluation:
    losses = [one.loss for one in ones if one.loss is not None]
    return replace(
        ones[0],
        loss=_mean([one.loss for one in ones]),
        decode=_mean([one.decode for one in ones]),
        teacher=_mean([one.teacher for one in ones]),
        leaky=any(one.leaky for one in ones),
        seeds=tuple(losses) if len(losses) == len(ones) else (),
    )


def _rounded(values: Sequence[Any]) -> int | None:
    found = _mean(values)
    return None if found is None else round(found)


def _mean(values: Sequence[Any]) -> float | None:
    """The mean; None where one of them is missing."""
    if any(not isinstance(value, (int, float)) for value in values):
        return None
    return sum(values) / len(values)
