"""What a reader must be told beside the numbers: warnings, notes, methods, and each run's facts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxablate.reports.load import Run, TaskResult

# Settings that change what is measured; the first value is the ordinary one.
SWITCHES = (
    ("variant", "standard"),
    ("bos", "auto"),
    ("boundary", "count"),
    ("window_policy", "causal_side"),
    ("subset", "head"),
    ("shared", "auto"),
    ("kernel", "auto"),
    ("allow_leaky", False),
)
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
        yield from _small(run)
    for name in COMPARED:
        values = dict.fromkeys(str(run.config.get(name)) for run in done)
        if len(values) > 1:
            yield f"The runs differ in {name}: {', '.join(values)}."


def _small(run: Run) -> Iterator[str]:
    """Tasks of which a part was asked."""
    for name, data in _tables(run.manifest.get("data")):
        rows, total = data.get("rows"), data.get("rows_in_split")
        if isinstance(rows, int) and isinstance(total, int) and rows < total:
            how = "at random" if run.config.get("subset") == "random" else "from the start"
            yield f"{name} in run {run.id}: {rows} of {total} rows of the split, taken {how}."


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


def appendix(run: Run) -> dict[str, Any]:
    """A run's identity and circumstances as (name, text) pairs."""
    return {"id": run.id, "status": run.status, "facts": tuple(_facts(run))}


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    manifest, config = run.manifest, run.config
    source = manifest.get("source")
    yield "checkpoint", str(config.get("checkpoint", "?"))
    if isinstance(source, dict) and source.get("revision"):
        yield "revision", str(source["revision"])
    yield "weights digest", str(manifest.get("weights", "?"))
    yield "tokenizer digest", str(manifest.get("tokenizer", "?"))
    yield "config fingerprint", str(manifest.get("fingerprint", "?"))
    yield "switches", _switches(config)
    for result in run.results:
        yield f"mask {result.name}", _mask_lines(run, result.name, result.values)
    for name, data in _tables(manifest.get("data")):
        yield f"data {name}", _data_lines(data)
    for result in run.results:
        for task in result.tasks:
            yield f"choices {task.name}, {result.name}", _choices(task)
    attempts = manifest.get("attempts")
    if isinstance(attempts, list):
        yield "attempts", "\n".join(_attempt(entry) for entry in attempts)
    yield "time", f"{manifest.get('created', '?')}, {manifest.get('seconds', '?')} s in all"
    yield from _environment(manifest.get("environment"))
    yield "settings", "\n".join(f"{key}: {_short(value)}" for key, value in config.items())


def _switches(config: Mapping[str, Any]) -> str:
    changed = [
        f"{name} = {config[name]}" for name, usual in SWITCHES if config.get(name, usual) != usual
    ]
    return ", ".join(changed) or "none: everything as usual"


def _mask_lines(run: Run, name: str, values: Mapping[str, Any]) -> str:
    lines = [str(values["mask"]), str(values.get("leak", ""))]
    scorers = run.manifest.get("scorers")
    scorer = scorers.get(name) if isinstance(scorers, dict) else None
    if isinstance(scorer, dict):
        lines.append(f"prompt: {scorer.get('prompt', '?')}")
        lines.append(f"device: {scorer.get('devices', '?')}")
        lines += _kernel_lines(scorer.get("kernels"))
    return "\n".join(line for line in lines if line)


def _kernel_lines(kernels: Any) -> Iterator[str]:
    """One line for each row length and distinct choice of kernel."""
    for length, choices in _items(kernels):
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                served = f"{choice.get('kernel', '?')} serves {choice.get('mask_kind', '?')}"
                declined = [f"{who}: {why}" for who, why in _items(choice.get("declined"))]
                reasons = f" (declined: {'; '.join(declined)})" if declined else ""
                yield f"rows of {length}: {served}{reasons}"


def _data_lines(data: Mapping[str, Any]) -> str:
    keys = ("origin", "split", "rows", "rows_in_split", "licence", "digest")
    return "\n".join(f"{key}: {_short(data[key])}" for key in keys if key in data)


def _choices(task: TaskResult) -> str:
    """How often each choice was right and was chosen."""
    return f"right {task.values.get('labels')}, chosen {task.measure.get('choices')}"


def _attempt(entry: Any) -> str:
    if not isinstance(entry, dict):
        return _short(entry)
    keys = ("attempt", "started", "status", "seconds", "reason")
    return ", ".join(f"{key} {entry[key]}" for key in keys if key in entry)


def _environment(environment: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(environment, dict):
        return
    git = environment.get("git")
    if isinstance(git, dict):
        changed = " with uncommitted changes" if git.get("changed") else ""
        yield "commit", f"{git.get('commit')}{changed}"
    yield "code digest", str(environment.get("code", "?"))
    packages = _items(environment.get("packages"))
    yield "software", ", ".join(f"{name} {version}" for name, version in packages)
    yield "machine", f"{environment.get('platform', '?')}, {environment.get('cores', '?')} cores"


def _tables(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, table) for name, table in _items(value) if isinstance(table, dict))


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}..."
