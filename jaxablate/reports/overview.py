"""A study as the view of its report."""

from collections.abc import Iterator, Sequence
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.reports import facts, findings, instruments
from jaxablate.reports.appendix import appendix, finetune_appendix
from jaxablate.reports.budget import budget
from jaxablate.reports.compare import macro
from jaxablate.reports.doses import dose_responses
from jaxablate.reports.experiment_view import Overview
from jaxablate.reports.finetune import GAP, GAP_SHARE, FinetuneRun
from jaxablate.reports.further import further_results
from jaxablate.reports.learning import curves, finished, losses, seeds, texts, training
from jaxablate.reports.load import Run
from jaxablate.reports.matrix import Matrix, build_matrix
from jaxablate.reports.origins import origins
from jaxablate.reports.pairs import counted
from jaxablate.reports.places import moved, without_places
from jaxablate.reports.published import Published, beside
from jaxablate.reports.study import Study
from jaxablate.reports.sweeps import sweep_tables
from jaxablate.reports.told_once import told_once

# Settings in which the evaluations of one experiment should agree.
COMPARED = ("variant", "split", "limit", "subset", "dtype", "bos", "boundary")


def build_overview(study: Study, published: Published | None = None) -> Overview:
    """The report of a study, without a word of when and where its runs ran.

    `published` are claims of others, beside which the study's numbers are set.

    Raises:
        UserError: when no run is done, or runs that are compared answered different questions.
    """
    runs = [one.run for one in study.scored]
    trained = [run for model in study.models for run in model.runs]
    _check_runs(runs, trained)
    matrix = build_matrix(study)
    return Overview(
        title=study.title,
        lead=_lead(study, matrix),
        warnings=tuple(map(without_places, _warnings(study, matrix, runs, trained))),
        summary=findings.summary(matrix) if matrix.cells else (),
        criteria=findings.criteria(matrix),
        models=matrix.models,
        columns=matrix.columns,
        tasks=matrix.tasks,
        results=tuple(matrix.results()),
        macro=tuple(macro(cell) for cell in matrix.cells),
        kept=tuple(matrix.kept()),
        recovery_goal=study.criteria.recovery,
        baseline_mask=study.criteria.baseline_mask,
        comparisons=matrix.comparisons(),
        further=further_results(study),
        training=training(study.models),
        texts=texts(study.models),
        losses=losses(study.models),
        curves=curves(study.models),
        leaks=study.leaks,
        doses=dose_responses(study.scored),
        sweeps=sweep_tables(study, matrix),
        instruments=instruments.kept(matrix, study.models),
        canaries=instruments.canaries(matrix),
        seeds=seeds(study.models),
        origins=origins(study, matrix),
        runs=tuple(_appendix(runs, trained, study.places)),
        facts=study.facts,
        methods=_methods(study, runs, trained),
        beside=beside(published, study, matrix) if published else None,
    )


def _check_runs(runs: Sequence[Run], trained: Sequence[FinetuneRun]) -> None:
    every = [*runs, *trained]
    places = [run.path.resolve() for run in every]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise UserError(f"{twice}: is given twice")
    if not any(run.results for run in runs) and not any(run.summary for run in trained):
        states = ", ".join(f"{run.id} is {run.status}" for run in every)
        raise UserError(f"no finished run to report: {states or 'there is none at all'}")


def _lead(study: Study, matrix: Matrix) -> str:
    runs = len(study.scored) + sum(len(model.runs) for model in study.models)
    counts = (
        (len(matrix.models), "model"),
        (len(matrix.columns), "mask"),
        (len(matrix.tasks), "task"),
        (runs, "run folder"),
    )
    words = [f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts]
    return f"{', '.join(words[:-1])}, from {words[-1]}."


def _warnings(
    study: Study, matrix: Matrix, runs: Sequence[Run], trained: Sequence[FinetuneRun]
) -> Iterator[str]:
    for run in (*runs, *trained):
        if run.status != "done":
            yield f"Run {run.id} is {run.status}: it has no results yet and is in no table."
    for model, run in finished(study.models):
        told = run.summary
        if run.stopped:
            steps = f"{told['steps_done']} of {told['steps_planned']} steps"
            why = told.get("sentence") or ""
            yield (
                f"STOPPED: {model.name} ended after {steps} by the rule {run.stopped}. {why}"
            ).rstrip()
        if told["leaky"]:
            yield (
                f"LEAKY: {model.name} was trained under {told['mask']}, where a token can see its "
                "own target; its training loss does not measure skill."
            )
    leaky = [column.mask for column in matrix.columns if column.leaky]
    if leaky:
        yield (
            f"LEAKY: under {', '.join(leaky)} an answer can see itself, so the score does not "
            "measure skill. Such scores are shown and never compared."
        )
    yield from instruments.leaking(matrix)
    yield from budget(matrix)
    yield from _matrix_warnings(study, matrix)
    done = [run for run in runs if run.results]
    if any(run.config.get("variant") == "compat" for run in done):
        yield (
            "Tasks are asked in the wording of an earlier study (compat); the numbers are not "
            "comparable with published ones."
        )
    parts = [entry for run in done for entry in facts.small(run)]
    for part in dict.fromkeys(part for _, part in parts):
        tasks = dict.fromkeys(task for task, text in parts if text == part)
        yield f"{', '.join(tasks)}: {part}"
    yield from facts.differing(done, COMPARED)


def _matrix_warnings(study: Study, matrix: Matrix) -> Iterator[str]:
    """What makes cells of the matrix unlike each other."""
    tasks = {cell.condition.label: {t.name for t in counted(cell)} for cell in matrix.cells}
    for label, names in tasks.items():
        missing = [task for task in matrix.tasks if task not in names]
        if missing:
            yield f"{label} lacks {', '.join(missing)}: its mean over tasks is of fewer tasks."
    found = [
        (one.model.name, r.values["mask"], one.seed) for one in study.main for r in one.run.results
    ]
    for name, algebra, _ in dict.fromkeys(key for key in found if found.count(key) > 1):
        yield f"{name} was scored more than once under {algebra}; the first run is shown."
    weights = dict.fromkeys(
        str(one.run.manifest.get("weights"))
        for one in study.scored
        if one.model.run is None and one.run.results and one.model.name == study.models[0].name
    )
    if len(weights) > 1:
        yield f"The runs of the base scored {len(weights)} different sets of weights."


def _appendix(
    runs: Sequence[Run], trained: Sequence[FinetuneRun], places: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """What identifies each run, with paths that are the same wherever the runs lie."""
    entries = [finetune_appendix(moved(run, places)) for run in trained]
    entries += [appendix(moved(run, places), timed=False) for run in runs]
    shown = (
        {**entry, "facts": tuple((name, without_places(text)) for name, text in entry["facts"])}
        for entry in entries
    )
    yield from told_once(shown)


def _seed_methods(study: Study) -> Iterator[str]:
    """What intervals hold of the spread between trainings."""
    if not any(len(model.members) > 1 for model in study.models):
        yield (
            "Intervals are over questions. They say nothing about the spread between training "
            "runs with other seeds; each arm here is one run unless the tables show more."
        )
        return
    yield (
        "Where several seeds stand behind a number it is their mean, and sd is their sample "
        "standard deviation. A seed decides the order of the data, the start of LoRA, dropout and "
        "rounding; which records are learned and held out is the same for all. The interval holds "
        "questions and seeds: questions are resampled, each with its mean over the seeds, and a "
        "deviation of the mean over seeds is added to every resample (Student's t with one degree "
        "of freedom less than there are seeds; two models of the same seeds deviate together). "
        "Such a difference has its p value from the same resamples. Few seeds tell little of a "
        "spread, so these intervals are wide. Bars of losses go from the lowest to the highest "
        "seed. The base is one checkpoint: nothing here tells of other pretrainings."
    )


def _methods(study: Study, runs: Sequence[Run], trained: Sequence[FinetuneRun]) -> tuple[str, ...]:
    scored = [run for run in runs if run.results]
    lines = list(facts.methods(scored))[:3] if scored else []
    if scored:
        lines += [
            "Differences are paired: the same questions to both. Per task: exact McNemar test, "
            "p (Holm) corrected for all comparisons of this report. Over all tasks: the bootstrap "
            "interval. Leaky scores take no part.",
            "Recovery is the accuracy as a share of the baseline's. Kept above chance is the same "
            "of what lies above chance. Neither has a meaning where the baseline is not above "
            "chance, and then neither is given.",
            "A criterion is met, or not met, when the whole 95 % interval says so; otherwise it is "
            "not distinguishable.",
        ]
    if trained:
        lines += [
            "Losses are in nats a token, token-weighted, over held-out responses or text; "
            "perplexity is exp of the last one. Token by token: the starts of some responses read "
            "through the cache, where nothing can be seen that is not there yet. The gap is that "
            "loss minus the loss of the same tokens in one pass. "
            f"A gap above {GAP:g} nats and {GAP_SHARE:.0%} is a leak, not skill.",
            *_seed_methods(study),
        ]
    return (*lines, "Every number comes from the run folders named below.")
