"""Rules that end a training run early: nothing is learned, nothing improves, or a loss is a lie.

The rules see two kinds of numbers, both in nats per token: the mean training loss of each log
window, and each held-out loss. They know nothing else, so a restored state goes on as if it had
never been put away.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

from jaxablate.core.errors import UserError, unknown

NO_LEARNING, PLATEAU, LEAK_ALARM, NON_FINITE = "no_learning", "plateau", "leak_alarm", "non_finite"
REASONS = (NO_LEARNING, PLATEAU, LEAK_ALARM, NON_FINITE)

# No text is this easy for a model that has not seen it: the lowest honest first window is above 1,
# the first window of a model that reads its own targets about 0.07.
IMPLAUSIBLE_LOSS = 0.1


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """When a run is ended before its last step.

    Attributes:
        kill_after_steps: from this step on, a run whose training loss has not fallen by
            `min_loss_improvement` since its first logged loss ends; 0 never.
        min_loss_improvement: nats per token that must have been gained by then.
        patience_evals: that many evaluations in a row without improvement end the run; 0 never.
        min_delta: nats per token below the best that count as an improvement.
        min_steps: evaluations before this step set the best, but use up no patience.
        leak_before_step: training losses logged up to this step are watched for a leak.
        leak_share: a watched loss below this share of the first one is an alarm; 0 never.
        leak_action: what an alarm does: "stop" the run, or "note" it and go on.
    """

    kill_after_steps: int = 0
    min_loss_improvement: float = 0.08
    patience_evals: int = 0
    min_delta: float = 0.0
    min_steps: int = 0
    leak_before_step: int = 50
    leak_share: float = 0.5
    leak_action: Literal["stop", "note"] = "stop"

    def __post_init__(self) -> None:
        for name in (
            "kill_after_steps",
            "min_loss_improvement",
            "patience_evals",
            "min_delta",
            "min_steps",
            "leak_before_step",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be a finite number >= 0, got {value}")
        if not 0 <= self.leak_share <= 1:
            raise UserError(f"leak_share must be between 0 and 1, got {self.leak_share}")
        if self.leak_action not in ("stop", "note"):
            raise unknown("leak_action", self.leak_action, ("stop", "note"))


class StopRules:
    """Told of every loss in order; answers with the reason to stop, or None.

    >>> rules = StopRules(StopConfig(kill_after_steps=20))
    >>> [rules.on_train(10, 2.5), rules.on_train(20, 2.45)]
    [None, 'no_learning']
    >>> print(rules.sentence("no_learning"))
    training loss fell from 2.5 by only 0.05 until step 20; 0.08 were wanted after 20 steps

    The first logged training loss is what later ones are compared with, so it never counts as "no
    learning". For the leak alarm it has nothing to be compared with and is held against
    `IMPLAUSIBLE_LOSS`. Losses that are no numbers end the run and leave no other trace.
    """

    def __init__(self, config: StopConfig, state: dict[str, Any] | None = None):
        self.config = config
        self._state = _fresh() if state is None else copy.deepcopy(state)
        if self._state.keys() != _fresh().keys():
            raise UserError(
                f"state of the stop rules must hold {', '.join(_fresh())}; "
                f"got {', '.join(map(str, self._state)) or 'nothing'}"
            )

    @property
    def best(self) -> dict[str, Any] | None:
        """Step and loss of the lowest held-out loss, the earliest of equals; None before any."""
        return copy.deepcopy(self._state["best"])

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """Step, rule and sentence of what looked like a leak, whether or not it ended the run."""
        return copy.deepcopy(self._state["alarms"])

    def sentence(self, reason: str) -> str:
        """Why the run was ended, with the numbers; only for a reason that was returned."""
        if reason not in self._state["sentences"]:
            raise unknown("stop reason", reason, self._state["sentences"])
        return self._state["sentences"][reason]

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain JSON with finite numbers."""
        return copy.deepcopy(self._state)

    def on_train(self, step: int, loss: float) -> str | None:
        """A logged training loss.

        Args:
            step: steps done.
            loss: mean over the log window, nats per token.

        Returns:
            "non_finite", "leak_alarm", "no_learning", or None to go on.
        """
        loss = float(loss)
        if not math.isfinite(loss):
            return self._stop(NON_FINITE, f"training loss is {loss} at step {step}")
        first = self._state["first"]
        if first is None:
            self._state["first"] = loss
        self._state["lowest"] = min(loss, _or(self._state["lowest"], loss))
        return self._leak(step, loss, first) or self._no_learning(step, first)

    def on_eval(self, step: int, loss: float) -> str | None:
        """A held-out loss, always under the same mask.

        Args:
            step: steps done; 0 is before the first.
            loss: nats per token.

        Returns:
            "non_finite", "plateau", or None to go on.
        """
        loss = float(loss)
        if not math.isfinite(loss):
            return self._stop(NON_FINITE, f"held-out loss is {loss} at step {step}")
        state, config = self._state, self.config
        if state["best"] is None or loss < state["best"]["loss"]:
            state["best"] = {"step": step, "loss": loss}
        # What patience is measured against moves only by whole improvements, so that many small
        # ones add up instead of each being dismissed.
        if state["level"] is None or loss < state["level"] - config.min_delta:
            state["level"], state["waited"] = loss, 0
        elif step >= config.min_steps:
            state["waited"] += 1
        if not config.patience_evals or state["waited"] < config.patience_evals:
            return None
        best = state["best"]
        return self._stop(
            PLATEAU,
            f"held-out loss is {loss:.6g} at step {step}; {_evaluations(state['waited'])} brought "
            f"no gain of more than {config.min_delta:g} over {state['level']:.6g} "
            f"(lowest: {best['loss']:.6g} at step {best['step']})",
        )

    def _leak(self, step: int, loss: float, first: float | None) -> str | None:
        share, watched = self.config.leak_share, self.config.leak_before_step
        limit = IMPLAUSIBLE_LOSS if first is None else share * first
        if not share or step > watched or loss >= limit or self._state["alarms"]:
            return None
        if first is None:
            seen = f"the first training loss, at step {step}, is {loss:.6g}, below {limit:g}"
        else:
            seen = (
                f"training loss fell to {loss:.6g} at step {step}, below {share:g} of the first, "
                f"{first:.6g}, within {watched} steps"
            )
        sentence = f"{seen}: tokens may see their own targets, or the data are already known"
        self._state["alarms"].append({"step": step, "rule": LEAK_ALARM, "sentence": sentence})
        return self._stop(LEAK_ALARM, sentence) if self.config.leak_action == "stop" else None

    def _no_learning(self, step: int, first: float | None) -> str | None:
        after, wanted = self.config.kill_after_steps, self.config.min_loss_improvement
        if first is None or not after or step < after:
            return None
        gain = first - self._state["lowest"]
        if gain >= wanted:
            return None
        return self._stop(
            NO_LEARNING,
            f"training loss fell from {first:.6g} by only {gain:.6g} until step {step}; "
            f"{wanted:g} were wanted after {after} steps",
        )

    def _stop(self, reason: str, sentence: str) -> str:
        self._state["sentences"][reason] = sentence
        return reason


def _fresh() -> dict[str, Any]:
    """What is remembered before any loss.

    first: first training loss. lowest: lowest training loss. best: step and loss of the lowest
    held-out loss. level: the held-out loss that patience is measured against. waited: evaluations
    without improvement.
    """
    return {
        "first": None,
        "lowest": None,
        "best": None,
        "level": None,
        "waited": 0,
        "alarms": [],
        "sentences": {},
    }


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _evaluations(count: int) -> str:
    return "1 evaluation" if count == 1 else f"{count} evaluations in a row"
