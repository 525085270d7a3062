"""The held-out loss under each evaluation mask, by the step's own program."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxablate.data.batch import Example
from jaxablate.data.pipeline import in_order
from jaxablate.losses.term import Term
from jaxablate.masks.parse import parse
from jaxablate.training.decode_loss import decode_loss
from jaxablate.training.inputs import Preparation
from jaxablate.training.state import TrainState
from jaxablate.training.step import TrainStep


class HeldOut:
    """Measures every held-out example once; sums in float64 over batches in a fixed order."""

    def __init__(
        self,
        examples: Sequence[Example],
        masks: Sequence[str],
        *,
        prepare: Preparation,
        width: int,
        rows_per_batch: int,
        packed: bool,
        decode_rows: int = 0,
    ):
        self.batches = in_order(examples, width=width, rows=rows_per_batch, packed=packed)
        # The mask is measured, not trained on: a leaky one is labelled, not refused.
        self.prepare = {
            name: replace(prepare, mask=parse(name), allow_leaky=True) for name in masks
        }
        self.leaky = {
            name: any(one.leaks(batch).leaks for batch in self.batches)
            for name, one in self.prepare.items()
        }
        self.decoded = list(examples[:decode_rows])

    def measure(self, step: TrainStep, state: TrainState) -> list[dict[str, Any]]:
        """One entry of `metrics.jsonl` a mask."""
        done = int(state.step)
        found = []
        for name, prepare in self.prepare.items():
            terms = [step.loss(state, prepare(batch)) for batch in self.batches]
            entry = {
                "step": done,
                "kind": "eval",
                "mask": name,
                "loss": _mean(terms),
                "targets": int(sum(float(term.count) for term in terms)),
                "leaky": self.leaky[name],
            }
            if self.decoded:
                entry.update(decode_loss(step, state, prepare, self.decoded))
            found.append(entry)
        return found


def _mean(terms: Sequence[Term]) -> float:
    """Sum over count; the sums of batches are added in float64."""
    count = sum(float(term.count) for term in terms)
    return sum(float(term.sum) for term in terms) / count
