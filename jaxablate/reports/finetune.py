"""Training runs as their folders tell them. A folder may come from anybody, so it is checked.

A pretraining leaves the same files as a finetuning.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json
from jaxablate.reports.load import Folder
from jaxablate.reports.shapes import Maybe, match, read_lines
from jaxablate.runs.folder import PRETRAIN, TRAINING, read_manifest

LOG, SUMMARY = "metrics.jsonl", "summary.json"
FINETUNED = "jaxablate-finetuned"
# A loss measured in one pass may be this much under the one that decoding sees: nats, and share.
GAP, GAP_SHARE = 0.05, 0.05
MOST_NATS = 100.0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A held-out loss in nats per token; None where it was not finite or not measured.

    `decode` is the loss when tokens are read one by one, `teacher` that of the same tokens in one
    pass. The difference is what a position sees that is not there yet when the model writes.
    `seeds` are the losses of several seeds, of which `loss` is the mean.
    """

    step: int
    mask: str
    loss: float | None
    targets: int
    leaky: bool
    decode: float | None
    teacher: float | None
    seeds: tuple[float, ...] = ()

    @property
    def perplexity(self) -> float | None:
        """exp(loss); None where it is beyond any number worth printing."""
        return math.exp(self.loss) if self.loss is not None and self.loss < MOST_NATS else None

    @property
    def gap(self) -> float | None:
        """How much lower the loss is in one pass than in decoding."""
        if self.decode is None or self.teacher is None:
            return None
        return self.decode - self.teacher

    @property
    def leaked(self) -> bool:
        """The gap is more than rounding: the loss counts what decoding cannot see."""
        gap, decode = self.gap, self.decode
        return gap is not None and decode is not None and gap > max(GAP, GAP_SHARE * decode)


@dataclass(frozen=True, kw_only=True)
class FinetuneRun(Folder):
    """A finetuning or a pretraining. `summary` is empty unless the run is done."""

    summary: Mapping[str, Any]
    train: tuple[tuple[int, float | None], ...] = ()
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def from_nothing(self) -> bool:
        """Whether it is a pretraining."""
        return self.manifest["kind"] == PRETRAIN

    @property
    def stopped(self) -> str:
        """The rule that ended the run before its planned steps; empty when none did."""
        return self.summary["stop_reason"] if self.summary.get("stopped") else ""

    @property
    def masks(self) -> tuple[str, ...]:
        """Masks of the held-out loss, in the order of the first evaluation."""
        return tuple(dict.fromkeys(one.mask for one in self.evaluations))

    def measured(self, mask: str) -> list[Evaluation]:
        """Evaluations under a mask, by step."""
        return [one for one in self.evaluations if one.mask == mask]

    def best(self, mask: str) -> Evaluation | None:
        """The first evaluation with the lowest loss."""
        finite = [one for one in self.measured(mask) if one.loss is not None]
        return min(finite, key=lambda one: one.loss or 0.0, default=None)

    @property
    def chosen_step(self) -> str:
        """The step whose weights the run stands for, as text; empty when it is not told."""
        checkpoints = self.summary.get("checkpoints")
        chosen = checkpoints.get("chosen") if isinstance(checkpoints, dict) else None
        return Path(str(chosen)).name.removeprefix("step-").lstrip("0") or "0" if chosen else ""


_SUMMARY = {
    "stop_reason": str,
    "stopped": bool,
    "sentence": Maybe(str),
    "steps_done": int,
    "steps_planned": int,
    "mask": str,
    "leaky": bool,
    "alarms": [{"step": int, "rule": str, "sentence": str}],
    "parameters": {"trained": int, "frozen": int},
}
_ENTRY = {"step": int, "kind": str}
_EVALUATION = {"mask": str, "targets": int, "leaky": bool}


def load_finetune(path: str | Path) -> FinetuneRun:
    """The run in a folder.

    Raises:
        UserError: for a folder without a training run, or with files that are not as they should
            be.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such run folder")
    manifest = read_manifest(path)
    if manifest["kind"] not in TRAINING or not isinstance(manifest["config"], dict):
        wanted = " or ".join(map(repr, TRAINING))
        raise UserError(f"{path}: holds a run of {manifest['kind']!r}, wanted {wanted}")
    if manifest.get("status") != "done":
        return FinetuneRun(path=path, manifest=manifest, summary={})
    summary = read_json(path / SUMMARY)
    match(summary, _SUMMARY, "", path / SUMMARY)
    train, evaluations = _entries(path / LOG)
    return FinetuneRun(
        path=path, manifest=manifest, summary=summary, train=train, evaluations=evaluations
    )


def _entries(path: Path) -> tuple[tuple[tuple[int, float | None], ...], tuple[Evaluation, ...]]:
    train: list[tuple[int, float | None]] = []
    found: list[Evaluation] = []
    for number, entry in enumerate(read_lines(path), 1):
        at = f"line {number}"
        match(entry, _ENTRY, at, path)
        if entry["kind"] == "train":
            train.append((entry["step"], _number(entry, "loss", at, path)))
        elif entry["kind"] == "eval":
            match(entry, _EVALUATION, at, path)
            found.append(_evaluation(entry, at, path))
    return tuple(train), tuple(found)


def _evaluation(entry: Mapping[str, Any], at: str, path: Path) -> Evaluation:
    loss = _number(entry, "loss", at, path)
    decode = _number(entry, "decode_loss", at, path)
    teacher = _number(entry, "teacher_loss", at, path) if "teacher_loss" in entry else loss
    return Evaluation(
        step=entry["step"],
        mask=entry["mask"],
        loss=loss,
        targets=entry["targets"],
        leaky=entry["leaky"],
        decode=decode,
        teacher=None if decode is None else teacher,
    )


def _number(entry: Mapping[str, Any], key: str, at: str, path: Path) -> float | None:
    """A number, or None where it is missing or not finite (a run may stop because of that)."""
    value = entry.get(key)
    if value is None or value in ("NaN", "Infinity", "-Infinity"):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{path}: {at}.{key} must be of type float, got {value!r:.60}")
    return float(value) if math.isfinite(value) else None


def finetuned_from(manifest: Mapping[str, Any]) -> tuple[str, str] | None:
    """Run id and stop reason of the finetuning that made what an evaluation scored, if one did."""
    source = manifest.get("source")
    if not isinstance(source, dict) or source.get("format") != FINETUNED:
        return None
    return str(source.get("run", "?")), str(source.get("stop_reason", "finished"))


def stop_rule(manifest: Mapping[str, Any]) -> str:
    """The rule that ended the training of what an evaluation scored; empty when none did."""
    made = finetuned_from(manifest)
    return made[1] if made and made[1] != "finished" else ""
