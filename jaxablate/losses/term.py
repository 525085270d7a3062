"""What every loss returns: a sum and what it counts, so that the mean is taken once, at the end."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Term:
    """A sum over `count` things, float32 scalars. Terms of parts of a batch add up.

    >>> whole = Term(jnp.float32(6.0), jnp.float32(2.0)) + Term(jnp.float32(3.0), jnp.float32(1.0))
    >>> float(whole.mean)
    3.0
    """

    sum: Any
    count: Any

    def __add__(self, other: "Term") -> "Term":
        """Both parts together."""
        return Term(self.sum + other.sum, self.count + other.count)

    @property
    def mean(self) -> Any:
        """Sum divided by count; 0 where nothing was counted."""
        return jnp.where(self.count > 0, self.sum / jnp.where(self.count > 0, self.count, 1), 0)
