"""What the loop knows besides arrays: plain values that go into every checkpoint."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxablate.training.step import StepMetrics


@dataclass
class Progress:
    """Where a run is; a resumed run continues from exactly these values.

    Attributes:
        step: steps done.
        position: lines of metrics.jsonl.
        window: one row a step since the last line of metrics, see `row`.
        tokens, targets: real and supervised tokens read so far.
        evaluated: step of the newest evaluation, -1 before the first.
        evals: newest entry of each evaluation mask.
        train_loss: newest logged training loss.
        rules: state of the stop rules.
        reason: why the run ends, once it does.
    """

    step: int = 0
    position: int = 0
    window: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    targets: int = 0
    evaluated: int = -1
    evals: dict[str, dict[str, Any]] = field(default_factory=dict)
    train_loss: float | None = None
    rules: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; floats keep every bit in JSON."""
        return asdict(self)

    def close_window(self) -> dict[str, Any]:
        """The line of metrics for the steps since the last one; the window starts anew."""
        rows, self.window = self.window, []

        def total(name: str) -> float:
            return math.fsum(row[name] for row in rows)

        self.train_loss = total("loss_sum") / max(1.0, total("targets"))
        return {
            "step": self.step,
            "kind": "train",
            "loss": self.train_loss,
            "learning_rate": rows[-1]["learning_rate"],
            "grad_norm": total("grad_norm") / len(rows),
            "changed": total("changed") / total("weights"),
            "targets": int(total("targets")),
            "tokens": int(total("tokens")),
            "slots": int(total("slots")),
        }


def row(metrics: StepMetrics, batch: dict[str, Any]) -> dict[str, float]:
    """One step's row of the window, on the host; `batch` are the counts of its batch."""
    return {
        "loss_sum": float(metrics.loss.sum),
        "targets": float(metrics.loss.count),
        "changed": float(metrics.changed.sum),
        "weights": float(metrics.changed.count),
        "grad_norm": float(metrics.grad_norm),
        "learning_rate": float(metrics.learning_rate),
        "tokens": float(batch["tokens"]),
        "slots": float(batch["slots"]),
    }


def is_finite(row: dict[str, float]) -> bool:
    """Whether loss and gradient of a step are numbers."""
    return math.isfinite(row["loss_sum"]) and math.isfinite(row["grad_norm"])
