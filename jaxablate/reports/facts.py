"""What a reader must be told beside the numbers: warnings, notes, and methods."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxablate.reports.load import Run, TaskResult

# Settings in which runs of one report should agree.
COMPARED = ("checkpoint", "variant", "split", "limit", "subset", "dtype", "bos", "boundary")


def warnings(runs: Sequence[Run]) -> Iterator[str]:
    """Sentences that stand above everything else."""
    for run in runs:
        if not run.results:
            reason = _reason(run)
            yield (
                f"Run {run.id} is {run.status}{reason}: it has no results yet and is in no table. "
                "The same command continues it."
            )
    done = [run for run in runs if run.results]
    for run in done:
        leaky = [result.name for result in run.results if result.leaky]
        if leaky:
            yield (
                f"LEAKY: under {', '.join(leaky)} (run {run.id}) an answer can see itself, so the "
                "score does not measure skill."
            )
        if run.config.get("variant") == "compat":
            yield (
                f"Run {run.id} asks in the wording of an earlier study (compat); its numbers are "
                "not comparable with published ones."
            )
        for task, part in small(run):
            yield f"{task} in run {run.id}: {part}"
    yield from differing(done, COMPARED)


def differing(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """Settings in which runs differ though they should agree."""
    for name in names:
        values = dict.fromkeys(str(run.config.get(name)) for run in runs)
        if len(values) > 1:
            yield f"The runs differ in {name}: {', '.join(values)}."


def small(run: Run) -> Iterator[tuple[str, str]]:
    """Tasks of which a part was asked, and which part."""
    for name, data in tables(run.manifest.get("data")):
        rows, total = data.get("rows"), data.get("rows_in_split")
        if isinstance(rows, int) and isinstance(total, int) and rows < total:
            how = "at random" if run.config.get("subset") == "random" else "from the start"
            yield name, f"{rows} of {total} rows of the split, taken {how}."


def _reason(run: Run) -> str:
    attempts = run.manifest.get("attempts")
    last = attempts[-1] if isinstance(attempts, list) and attempts else {}
    reason = last.get("reason") if isinstance(last, dict) else None
    return f" ({reason})" if reason else ""


def notes(task: TaskResult) -> Iterator[str]:
    """What happened to a task's items that a reader should know."""
    counts = (
        (task.measure.get("ties"), "tied"),
        (task.values.get("without_tokens"), "answers without a token of their own"),
        (task.values.get("truncated"), "contexts cut to fit"),
        (task.values.get("boundary_mismatches"), "pairs with a token across the border"),
        (task.values.get("skipped_rows"), "rows left out"),
    )
    return (f"{count} {what}" for count, what in counts if isinstance(count, int) and count)


def methods(runs: Sequence[Run]) -> tuple[str, ...]:
    """How the numbers were made, for readers who were not there."""
    samples = ", ".join(
        dict.fromkeys(f"{run.config.get('bootstrap_samples', '?')}" for run in runs)
    )
    return (
        f"Intervals are 95 % bootstrap intervals over questions ({samples} resamples). All tasks "
        "together: the plain mean over tasks, each resampled on its own.",
        "Chance is the mean over questions of one over the number of choices. Above chance: 0 is "
        "guessing, 1 is everything right.",
        "The verdict on an accuracy is an exact two-sided test against guessing at the 5 % level.",
        "Differences are paired: the same questions under both masks, exact McNemar test. "
        "p (Holm) is corrected for all comparisons in this report; leaky ones do not take part.",
        "Ratio is the accuracy over the baseline's. Retention is the same above chance, and is "
        "given only where the baseline is above chance.",
        "Every number comes from the run folders named below.",
    )


def tables(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tables among the entries of what may be a table."""
    return ((name, table) for name, table in items(value) if isinstance(table, dict))


def items(value: Any) -> list[tuple[str, Any]]:
    """The entries of what may be a table."""
    return list(value.items()) if isinstance(value, dict) else []
