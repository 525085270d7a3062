"""What a model card says of the making: sizes, trainings side by side, command, config, run ids."""

import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from jaxablate.core.text import visible
from jaxablate.reports.finetune import FinetuneRun
from jaxablate.reports.lineage import Evaluated, Lineage, Trained
from jaxablate.reports.places import without_places

Row = tuple[str, tuple[str, ...]]
# Settings that say where a run lies, not what it is.
_PLACED = ("checkpoint", "name")


def amount(number: int) -> str:
    """A count in words.

    >>> amount(8), amount(262_144_000), amount(115_008)
    ('8', '262.1 million', '115,008')
    """
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"


def parameters(run: FinetuneRun) -> int:
    """All parameters of a model that was trained from nothing."""
    counts = run.summary["parameters"]
    return counts["trained"] + counts["frozen"]


def sizes(run: FinetuneRun) -> Iterator[tuple[str, str]]:
    """The architecture of a pretraining's model."""
    shape, tokenizer = _table(run.config, "shape"), _table(run.config, "tokenizer")
    yield "parameters", f"{parameters(run):,}"
    yield "family", str(shape.get("family", "?"))
    yield "layers", str(shape.get("layers", "?"))
    yield "width D of the residual stream", str(shape.get("hidden", "?"))
    yield "width F inside the MLP", str(shape.get("mlp", "?"))
    heads = f"{shape.get('heads', '?')} of width {shape.get('head_dim', '?')}"
    yield "query heads", heads
    yield "key-value heads", str(shape.get("kv_heads", "?"))
    vocabulary = f"{tokenizer.get('vocab_size', 0):,} tokens, trained on the same text"
    given = f"that of {PurePosixPath(str(tokenizer.get('path'))).name}"
    yield "vocabulary", given if tokenizer.get("path") else vocabulary
    yield "pre-tokeniser", str(tokenizer.get("style", "?"))
    yield "embedding", "shared with the output" if shape.get("tied") else "apart from the output"
    yield "context in training", f"{_table(run.config, 'data').get('max_length', '?')} tokens"


def training_rows(lineage: Lineage) -> tuple[Row, ...]:
    """A table with one column for each training."""
    columns = [dict(_facts(one)) for one in lineage.trainings]
    names = dict.fromkeys(name for column in columns for name in column)
    return tuple((name, tuple(column.get(name, "-") for column in columns)) for name in names)


def _facts(trained: Trained) -> Iterator[tuple[str, str]]:
    run, told, config = trained.run, trained.run.summary, trained.run.config
    data, step = _table(config, "data"), _table(config, "step")
    yield "begins with", "nothing" if run.from_nothing else "the training before"
    yield "mask", f"{told['mask']}{' (LEAKY)' if told['leaky'] else ''}"
    yield "steps", f"{told['steps_done']:,} of {told['steps_planned']:,}"
    yield "ended by", told["stop_reason"]
    yield "weights used", f"step {run.chosen_step or '?'}"
    yield "tokens read", amount(told.get("tokens_seen", 0))
    yield "batch", f"{config.get('rows', '?')} rows of {data.get('max_length', '?')} tokens"
    yield "optimiser", _settings(_table(config, "optimiser"))
    yield "schedule", _settings(_table(config, "schedule"))
    yield "gradient clipped at", str(step.get("clip_norm", "?"))
    yield (
        "precision",
        f"{step.get('compute_dtype', '?')} over {step.get('master_dtype', '?')} weights",
    )
    yield "seed", str(config.get("seed", "?"))
    yield "device", str(run.manifest.get("devices", "?"))
    yield "seconds", f"{run.manifest.get('seconds', 0):,.0f}"
    losses = [loss for _, loss in run.train if loss is not None]
    yield "training loss at the end", f"{losses[-1]:.3f}" if losses else "-"
    yield from _held_out(run)


def _held_out(run: FinetuneRun) -> Iterator[tuple[str, str]]:
    for mask in run.masks:
        last = run.measured(mask)[-1]
        if last.loss is not None:
            yield f"held-out loss under {mask}, nats a token", f"{last.loss:.3f}"
            yield f"held-out perplexity under {mask}", _perplexity(last.loss)


def _perplexity(loss: float) -> str:
    return f"{math.exp(loss):,.1f}" if loss < 20 else "-"


def _settings(table: Mapping[str, Any]) -> str:
    """A table's kind and its settings in one line; zeros that only mean "unset" are left out."""
    kind = str(table.get("kind", "?"))
    rest = [f"{name} {value:g}" for name, value in table.items() if _is_number(value) and value]
    return ", ".join([kind, *rest])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def command(lineage: Lineage) -> str:
    """The command that began the first training, without places of the machine."""
    environment = lineage.trainings[0].run.manifest.get("environment")
    argv = environment.get("argv") if isinstance(environment, dict) else None
    words = argv[1:] if isinstance(argv, list) else []
    return visible(shlex.join(["jaxablate", *(_name(str(word)) for word in words)]))


def _name(word: str) -> str:
    """The last part of an absolute path."""
    return PurePosixPath(word).name if word.startswith("/") else word


def config_yaml(lineage: Lineage) -> str:
    """The model's part of the experiment with every setting written out."""
    stages = {one.stage: _stage(one) for one in (*lineage.trainings, *lineage.evaluations)}
    for before, after in zip(lineage.trainings, lineage.trainings[1:], strict=False):
        stages[after.stage]["model"] = before.stage
    for one in lineage.evaluations:
        stages[one.stage]["model"] = lineage.model.stage
    table = {
        "name": lineage.experiment,
        "checkpoint": lineage.model.stage,
        "stages": stages,
    }
    text = yaml.safe_dump(table, sort_keys=False, allow_unicode=True, width=100)
    return visible(without_places(text)).rstrip()


def _stage(one: Trained | Evaluated) -> dict[str, Any]:
    settings = {key: value for key, value in one.run.config.items() if key not in _PLACED}
    return {"kind": one.run.manifest["kind"], "title": one.title, **settings}


def run_rows(lineage: Lineage) -> tuple[tuple[str, ...], ...]:
    """Stage, run, config fingerprint, weights, code and commit of each run."""
    return tuple(_ids(one) for one in (*lineage.trainings, *lineage.evaluations))


def _ids(one: Trained | Evaluated) -> tuple[str, ...]:
    manifest = one.run.manifest
    environment = _table(manifest, "environment")
    git = environment.get("git")
    commit = str(git.get("commit")) if isinstance(git, dict) else "-"
    changed = " and changes" if isinstance(git, dict) and git.get("changed") else ""
    return (
        one.stage,
        str(manifest["kind"]),
        one.run.id,
        _short(manifest.get("fingerprint")),
        _short(manifest.get("weights")),
        _short(environment.get("code")),
        _short(commit) + changed,
    )


def _short(value: Any) -> str:
    return str(value or "-")[:12]


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
