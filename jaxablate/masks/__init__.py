"""Attention masks as rules over slots.

`algebra` says what a mask is; `atoms` and `recipes` hold the vocabulary and the named masks;
`parse` reads masks from text, `draw` shows them; `window` joins a model's own sliding window;
`intervals` and `lower` make what kernels take; `leak` decides whether a target can see itself. Only
`lower` imports jax.
"""

from jaxablate.masks.algebra import Mask
from jaxablate.masks.parse import parse
from jaxablate.masks.recipes import named

__all__ = ["Mask", "named", "parse"]
