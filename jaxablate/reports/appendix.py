"""What identifies each run: checkpoint, digests, data, kernels, software, settings."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jaxablate.reports.facts import items, tables
from jaxablate.reports.finetune import FinetuneRun, stop_rule
from jaxablate.reports.load import Run, TaskResult
from jaxablate.runs.folder import PRETRAIN

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

NOTHING = "none: trained from nothing"


def appendix(run: Run, *, timed: bool = True) -> dict[str, Any]:
    """An evaluation's identity and circumstances as (name, text) pairs.

    Args:
        run: the run.
        timed: with attempts, times and the machine; without them equal results look equal.
    """
    rule = stop_rule(run.manifest)
    status = f"{run.status}, of a model STOPPED by {rule}" if rule else run.status
    return {"id": run.id, "status": status, "facts": tuple(_facts(run, timed))}


def finetune_appendix(run: FinetuneRun) -> dict[str, Any]:
    """A finetuning run's identity and circumstances, without times."""
    status = f"{run.status}, STOPPED by {run.stopped}" if run.stopped else run.status
    return {"id": run.id, "status": status, "facts": tuple(_finetune_facts(run))}


def _facts(run: Run, timed: bool) -> Iterator[tuple[str, str]]:
    manifest, config = run.manifest, run.config
    yield from _identity(manifest, config)
    yield "switches", _switches(config)
    for result in run.results:
        yield f"mask {result.name}", _mask_lines(run, result.name, result.values)
    for name, data in tables(manifest.get("data")):
        yield f"data {name}", _data_lines(data)
    for result in run.results:
        for task in result.tasks:
            yield f"choices {task.name}, {result.name}", _choices(task)
    if timed:
        yield from _times(manifest)
    yield from _environment(manifest.get("environment"), timed)
    yield "settings", _settings(config)


def _finetune_facts(run: FinetuneRun) -> Iterator[tuple[str, str]]:
    manifest, summary = run.manifest, run.summary
    yield from _identity(manifest, run.config)
    if summary:
        yield "ended", f"{summary['stop_reason']}: {summary.get('sentence') or 'no sentence'}"
        yield "checkpoint used", f"step {run.chosen_step or '?'}"
    for key in ("data", "parameters", "leak"):
        if key in manifest or key in summary:
            yield key, _lines(summary.get(key, manifest.get(key)))
    yield from _environment(manifest.get("environment"), False)
    yield "settings", _settings(run.config)


def _identity(manifest: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source = manifest.get("source")
    source = source if isinstance(source, dict) else {}
    none = NOTHING if manifest["kind"] == PRETRAIN else "?"
    yield "checkpoint", str(config.get("checkpoint", none))
    for name in ("revision", "run", "step"):
        if source.get(name):
            yield name if name != "run" else "made by run", str(source[name])
    yield "weights digest", str(manifest.get("weights") or source.get("weights", "?"))
    yield "tokenizer digest", _short(manifest.get("tokenizer", "?"))
    yield "config fingerprint", str(manifest.get("fingerprint", "?"))


def _times(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    attempts = manifest.get("attempts")
    if isinstance(attempts, list):
        yield "attempts", "\n".join(_attempt(entry) for entry in attempts)
    yield "time", f"{manifest.get('created', '?')}, {manifest.get('seconds', '?')} s in all"


def _settings(config: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {_short(value)}" for key, value in config.items())


def _lines(value: Any, name: str = "") -> str:
    """A table as one line an entry; tables in it by dotted names."""
    if not isinstance(value, dict):
        return f"{name}: {_short(value)}" if name else _short(value)
    return "\n".join(
        _lines(entry, f"{name}.{key}" if name else key) for key, entry in value.items()
    )


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
    for length, choices in items(kernels):
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                served = f"{choice.get('kernel', '?')} serves {choice.get('mask_kind', '?')}"
                declined = [f"{who}: {why}" for who, why in items(choice.get("declined"))]
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


def _environment(environment: Any, timed: bool) -> Iterator[tuple[str, str]]:
    if not isinstance(environment, dict):
        return
    git = environment.get("git")
    if isinstance(git, dict):
        changed = " with uncommitted changes" if git.get("changed") else ""
        yield "commit", f"{git.get('commit')}{changed}"
    yield "code digest", str(environment.get("code", "?"))
    packages = items(environment.get("packages"))
    yield "software", ", ".join(f"{name} {version}" for name, version in packages)
    if timed:
        yield (
            "machine",
            f"{environment.get('platform', '?')}, {environment.get('cores', '?')} cores",
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}..."
