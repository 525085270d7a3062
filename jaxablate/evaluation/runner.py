"""Tasks x masks to a run folder: encode, plan, score in batches, keep what is done, summarise.

Results depend on config, weights, data and code alone. Every finished batch goes to a journal, so
the same command continues an interrupted run, and its files come out byte for byte the same.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxablate.core.config import differences, fingerprint, relevant
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest, read_json, write_atomic, write_json
from jaxablate.core.slots import rows
from jaxablate.evaluation import metrics
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.mcq import record
from jaxablate.evaluation.prepare import PreparedTask, prepare
from jaxablate.evaluation.progress import Progress, progress_for
from jaxablate.evaluation.scoring import Part, Scores, plan_part, score_part
from jaxablate.evaluation.task import find_task
from jaxablate.masks.algebra import Mask
from jaxablate.runs.folder import METRICS, RunFolder, clean

MakeScorer = Callable[[Mask], Any]
FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """Where a run lies and what came out."""

    path: Path
    metrics: dict[str, Any]


def run(
    config: EvalConfig,
    *,
    provenance: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Load the checkpoint that a config names and evaluate it."""
    return evaluate(load_model(config), config, provenance=provenance, progress=progress)


def load_model(config: EvalConfig) -> Any:
    """The language model that a config names."""
    from jaxablate.language_model import load

    return load(config.checkpoint, dtype=config.dtype, mesh=config.mesh or None)


def evaluate(
    lm: Any,
    config: EvalConfig,
    *,
    provenance: dict[str, str] | None = None,
    progress: Progress | None = None,
    make_scorer: MakeScorer | None = None,
) -> Outcome:
    """Evaluate a loaded model; a finished run of the same config is only read.

    Args:
        lm: what `jaxablate.load` returns.
        config: what to evaluate.
        provenance: where each setting was written, for the manifest.
        progress: told of every finished item; default: stderr.
        make_scorer: scorer of a mask; default: the engine's.

    Raises:
        UserError: for anything wrong with data, config or folder. Nothing is written before all
            tasks are encoded and all masks have passed the leak guard.
    """
    progress = progress or progress_for(sys.stderr, config.progress_every_s)
    tasks = prepare(lm, config)
    make = make_scorer or engine_scorer(lm, config)
    parts = [
        plan_part(lm, config, name, mask, make(mask), tasks)
        for name, mask in zip(config.masks, config.parsed_masks, strict=True)
    ]
    with open_folder(config) as folder:
        _begin(folder, lm, tasks, parts, provenance)
        if not folder.done:
            with folder.journal() as journal:
                for part in parts:
                    scores = score_part(part, journal, progress, tasks)
                    _write_records(folder, part, tasks, scores)
            write_json(folder.path / METRICS, _summary(folder, lm, config, tasks, parts))
            _end(folder, parts)
        return Outcome(folder.path, read_json(folder.path / METRICS))


def engine_scorer(lm: Any, config: EvalConfig) -> MakeScorer:
    """Makes the engine's scorer of a mask, by the settings of a config."""
    from jaxablate.engine.score import Scorer

    def make(mask: Mask) -> Scorer:
        return Scorer(
            lm,
            mask,
            allow_leaky=config.allow_leaky,
            row_length=config.row_length or None,
            rows_per_batch=config.rows_per_batch or None,
            shared=config.shared,
            window_policy=config.window_policy,
            kernel=config.kernel,
        )

    return make


def open_folder(config: EvalConfig) -> RunFolder:
    """The run folder that a config names, or one of its own under `config.runs`."""
    out = Path(config.out) if config.out else None
    return RunFolder.open(
        out.parent if out else config.runs,
        kind="evaluate",
        slug=Path(config.checkpoint).name,
        config=relevant(config),
        name=out.name if out else None,
    )


def _begin(
    folder: RunFolder,
    lm: Any,
    tasks: Sequence[PreparedTask],
    parts: Sequence[Part],
    provenance: dict[str, str] | None,
) -> None:
    """Facts for the manifest; those of an earlier start must be the same."""
    facts = {
        "weights": lm.source.get("weights"),
        "tokenizer": lm.tokenizer.digest,
        "data": {task.name: task.data for task in tasks},
    }
    before = {name: folder.manifest[name] for name in facts if name in folder.manifest}
    changed = differences(before, facts) if before else []
    if changed:
        raise UserError(
            f"{folder.path}: weights, tokenizer or data are not those this run began with: "
            f"{'; '.join(changed)}"
        )
    if not folder.done:
        leaky = [part.name for part in parts if part.leak["leaky"]]
        folder.note(**facts, source=dict(lm.source), leaky=leaky, provenance=provenance or {})


def _end(folder: RunFolder, parts: Sequence[Part]) -> None:
    """Record what ran: kernels and their reasons, sharing, verdicts."""
    folder.note(scorers={part.name: part.scorer.description() for part in parts})
    folder.finish("done")


def records_name(task: str, mask: str) -> str:
    """File of a task's records under a mask, by the mask's name or algebra as written.

    >>> records_name("piqa", "prefix_lm")
    'piqa.prefix_lm.jsonl'
    """
    if not re.fullmatch(r"[a-z0-9_]+", mask):
        mask = f"{clean(mask)[:40]}-{digest(mask)[:6]}"
    return f"{task}.{mask}.jsonl"


def _write_records(
    folder: RunFolder, part: Part, tasks: Sequence[PreparedTask], scores: Scores
) -> None:
    for task in tasks:
        lines = (
            json.dumps(record(task.encoded, index, scores), allow_nan=False)
            for index in range(len(task.encoded.items))
        )
        path = folder.records() / records_name(task.name, part.name)
        write_atomic(path, "".join(f"{line}\n" for line in lines))


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Records of one file, in the order of the data."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def _summary(
    folder: RunFolder,
    lm: Any,
    config: EvalConfig,
    tasks: Sequence[PreparedTask],
    parts: Sequence[Part],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model_id": config.checkpoint,
        "weights": lm.source.get("weights"),
        "fingerprint": fingerprint(config),
        "variant": config.variant,
        "split": config.split,
        "dtype": config.dtype,
        "results": [_mask_result(folder, lm, config, tasks, part) for part in parts],
    }


def _mask_result(
    folder: RunFolder, lm: Any, config: EvalConfig, tasks: Sequence[PreparedTask], part: Part
) -> dict[str, Any]:
    """Results under one mask; `tasks` and `macro_accuracy` keep the reference system's fields."""
    samples, seed = config.bootstrap_samples, config.seed
    results = []
    for task in tasks:
        file = f"{folder.records().name}/{records_name(task.name, part.name)}"
        found = metrics.task_result(
            read_records(folder.path / file),
            primary=task.primary,
            compat=config.variant == "compat",
            samples=samples,
            seed=seed,
        )
        counts = metrics.encoding_counts(task.encoded)
        apart = metrics.kind(find_task(task.name))
        about = {"task": task.name, "version": task.version, **apart, "skipped_rows": task.skipped}
        results.append({**about, **found, **counts, "records": file})
    accuracies = [result["accuracy"] for result in metrics.counted(results)]
    return {
        "name": part.name,
        "mask": str(part.mask),
        "model_id": config.checkpoint,
        "prefill_bidirectional": looks_ahead(part.mask, lm.config.num_layers, lm.config.num_heads),
        "leaky": part.leak["leaky"],
        "leak": part.leak["sentence"],
        "tasks": results,
        "macro_accuracy": sum(accuracies) / len(accuracies),
        "macro": metrics.macro_result(results, samples=samples, seed=seed),
    }


def looks_ahead(mask: Mask, num_layers: int, num_heads: int) -> bool:
    """Whether some prompt token sees a later one, in any layer and head."""
    prompt = rows([8], 8)
    pairs = {
        (layer if mask.selects_layers else 0, head if mask.selects_heads else 0)
        for layer in range(num_layers)
        for head in range(num_heads)
    }
    return any(
        mask.materialise(prompt, prompt, layer=layer, head=head)[0, row, row + 1 :].any()
        for layer, head in pairs
        for row in range(8)
    )
