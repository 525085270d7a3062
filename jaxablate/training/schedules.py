"""Learning rates as pure functions of the absolute step: a resumed run has no state to lose.

Warm-up is step / warmup_steps, as transformers counts it: the very first step of a schedule with
warm-up has rate 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxablate.core.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning rate for every step.

    Attributes:
        kind: "cosine", "linear", "constant_with_warmup", "wsd": what follows a warm-up; or
            "constant", which has none.
        peak: the highest rate.
        total_steps: where a decay ends.
        warmup_steps: steps of linear rise from 0.
        decay_steps: steps of the last, linear part of "wsd" (warm-up, stable, decay).
        final_share: the rate at the end of a decay, as a share of the peak.

    >>> wsd = Schedule(kind="wsd", peak=1.0, total_steps=8, warmup_steps=2, decay_steps=4)
    >>> [round(float(wsd(step)), 3) for step in range(9)]
    [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    kind: str
    peak: float
    total_steps: int
    warmup_steps: int = 0
    decay_steps: int = 0
    final_share: float = 0.0

    def __post_init__(self):
        if self.kind not in SHAPES:
            raise unknown("schedule", self.kind, SHAPES)
        if self.total_steps < 1:
            raise UserError(f"total_steps must be >= 1, got {self.total_steps}")
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise UserError(
                f"warmup_steps must be between 0 and total_steps ({self.total_steps}), "
                f"got {self.warmup_steps}"
            )
        if not 0 <= self.decay_steps <= self.total_steps - self.warmup_steps:
            raise UserError(
                f"decay_steps must be between 0 and total_steps - warmup_steps "
                f"({self.total_steps - self.warmup_steps}), got {self.decay_steps}"
            )
        if not 0 <= self.final_share <= 1:
            raise UserError(f"final_share must be between 0 and 1, got {self.final_share}")
        if not self.peak > 0:
            raise UserError(f"peak learning rate must be > 0, got {self.peak}")
        if self.kind == "constant" and self.warmup_steps:
            raise UserError("schedule 'constant' has no warm-up; use 'constant_with_warmup'")

    def __call__(self, step: Any) -> Float[Array, ""]:
        """The rate of this step, counted from 0."""
        step = jnp.asarray(step, jnp.float32)
        rise = warmup(step, steps=self.warmup_steps)
        first = self.total_steps - self.decay_steps if self.kind == "wsd" else self.warmup_steps
        progress = fraction(step, start=first, end=self.total_steps)
        share = self.final_share + (1 - self.final_share) * SHAPES[self.kind](progress)
        return self.peak * jnp.where(step < self.warmup_steps, rise, share)


def fraction(step: Any, *, start: int, end: int) -> Any:
    """How much of start..end has passed, between 0 and 1.

    >>> [float(fraction(step, start=2, end=6)) for step in (0, 3, 9)]
    [0.0, 0.25, 1.0]
    """
    return jnp.clip((step - start) / max(1, end - start), 0.0, 1.0)


def warmup(step: Any, *, steps: int) -> Any:
    """Linear rise from 0 to 1.

    >>> [float(warmup(step, steps=4)) for step in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    return jnp.minimum(1.0, step / max(1, steps))


def cosine(progress: Any) -> Any:
    """Half a cosine from 1 to 0.

    >>> [round(float(cosine(part)), 3) for part in (0.0, 0.25, 0.5, 1.0)]
    [1.0, 0.854, 0.5, 0.0]
    """
    return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def linear(progress: Any) -> Any:
    """A straight line from 1 to 0.

    >>> float(linear(0.25))
    0.75
    """
    return 1.0 - progress


def constant(progress: Any) -> Any:
    """No decay.

    >>> float(constant(0.25))
    1.0
    """
    return jnp.ones_like(progress)


# The shape of what follows warm-up, as a function of the share of the decay that has passed.
SHAPES: dict[str, Callable[[Any], Any]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "constant_with_warmup": constant,
    "wsd": linear,
}
