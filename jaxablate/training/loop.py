"""The loop of a run: evaluate, save, stop or step.

Everything it decides with is in the checkpoint, so a run that is killed at any moment goes on as if
it had not been.
"""

import math
from collections.abc import Iterator
from typing import Any

from jaxablate.data.batch import Batch, counts
from jaxablate.runs.metrics import MetricsLog
from jaxablate.runs.observer import Observers
from jaxablate.runs.stop_rules import NON_FINITE, StopRules
from jaxablate.training.inputs import StepInputs
from jaxablate.training.keeper import Keeper
from jaxablate.training.progress import Progress, is_finite, row
from jaxablate.training.setup import Setup
from jaxablate.training.speed import Speed
from jaxablate.training.state import TrainState
from jaxablate.training.step import StepMetrics
from jaxablate.training.stopping import Stopped, StopRequest

# Steps that may be under way on the device while the host prepares the next.
AHEAD = 2


class Loop:
    """Runs a set-up from its progress to its end. `log` is None where this process writes none."""

    def __init__(
        self,
        setup: Setup,
        keeper: Keeper,
        progress: Progress,
        *,
        log: MetricsLog | None,
        timing: MetricsLog | None,
        observers: Observers,
        speed: Speed,
    ):
        self.setup, self.config = setup, setup.config
        self.keeper, self.progress = keeper, progress
        self.log, self.timing, self.observers, self.speed = log, timing, observers, speed
        self.rules = StopRules(self.config.stop, progress.rules or None)
        self._under_way: list[tuple[StepMetrics, dict[str, Any]]] = []

    def run(self, state: TrainState, request: StopRequest) -> TrainState:
        """The state at the end; `progress.reason` says why it ended.

        Raises:
            Stopped: when a stop was requested; everything is saved.
            SaveError: when a checkpoint could not be written.
        """
        batches = self._batches()
        while True:
            self._evaluate_if_due(state)
            self._save_if_due(state)
            if self._ends():
                break
            if request.reached(self.progress.step):
                self._save(state)
                self.keeper.store.wait()
                raise Stopped(f"stopped after step {self.progress.step}; it is saved")
            state = self._advance(state, *next(batches))
        self.keeper.store.wait()
        self.progress.reason = self.progress.reason or "finished"
        return state

    def _batches(self) -> Iterator[tuple[StepInputs, dict[str, Any]]]:
        """Inputs of the steps to come, and what is in them; threads check and place them ahead."""

        def then(batch: Batch) -> tuple[StepInputs, dict[str, Any]]:
            return self.setup.prepare(batch), counts(batch)

        pipeline, first = self.setup.pipeline, self.progress.step
        return iter(pipeline.prefetch(first, self.config.steps, then=then))

    def _ends(self) -> bool:
        return self.progress.reason is not None or self.progress.step == self.config.steps

    def _advance(self, state: TrainState, inputs: StepInputs, found: dict[str, Any]) -> TrainState:
        state, metrics = self.setup.step(state, inputs)
        self._under_way.append((metrics, found))
        self.progress.step += 1
        self.progress.tokens += found["tokens"]
        self.progress.targets += found["targets"]
        if len(self._under_way) > AHEAD:
            self._under_way[-AHEAD - 1][0].loss.sum.block_until_ready()
        last = self.progress.step == self.config.steps
        if last or self.progress.step % self.config.log_every == 0:
            self._log_window()
        return state

    def _fetch(self) -> bool:
        """Bring the metrics of steps under way to the host; False if one was not finite."""
        rows = [row(metrics, found) for metrics, found in self._under_way]
        self._under_way = []
        self.progress.window += rows
        if all(map(is_finite, rows)):
            return True
        self.progress.reason = self.rules.on_train(self.progress.step, math.nan)
        return False

    def _log_window(self) -> None:
        if not self._fetch():
            return
        entry = self.progress.close_window()
        timing = self.speed.entry(entry)
        self._write(entry, timing)
        alarms = len(self.rules.alarms)
        self.progress.reason = self.rules.on_train(self.progress.step, entry["loss"])
        for alarm in self.rules.alarms[alarms:]:
            self.observers.on_note(f"alarm: {alarm['sentence']}")

    def _evaluate_if_due(self, state: TrainState) -> None:
        step = self.progress.step
        ends = self._ends()
        if self.progress.reason == NON_FINITE or self.progress.evaluated == step:
            return
        if not (ends or self.config.evaluates(step)):
            return
        with self.speed.paused():
            entries = self.setup.held_out.measure(self.setup.step, state)
        self.progress.evaluated = step
        for entry in entries:
            self.progress.evals[entry["mask"]] = entry
            self._write(entry, None)
        reason = self.rules.on_eval(step, entries[0]["loss"])
        self.progress.reason = self.progress.reason or reason

    def _save_if_due(self, state: TrainState) -> None:
        step = self.progress.step
        best = self.rules.best
        is_best = self.keeper.config.keep_best and best is not None and best["step"] == step
        if self._ends() or is_best or self.keeper.due(step):
            self._save(state)

    def _save(self, state: TrainState) -> None:
        """Save, unless something is not finite: what is broken never replaces what is not."""
        if not self._fetch() or self.progress.reason == NON_FINITE:
            return
        if self.log is not None:
            self.log.sync()
        self.progress.rules = self.rules.state()
        keep_best = self.keeper.config.keep_best and self.rules.best is not None
        best = self.rules.best["step"] if keep_best and self.rules.best else None
        with self.speed.paused():
            self.keeper.save(state, self.progress, best=best)

    def _write(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        self.progress.position += 1
        if self.log is not None:
            self.log.append(entry)
        if self.timing is not None and timing is not None:
            self.timing.append(timing)
        self.observers.on_metrics(entry, timing)
