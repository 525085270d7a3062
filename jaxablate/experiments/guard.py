"""What can be refused before anything is loaded: a leak, and a checkpoint that is not there.

The leak guard looks at one small example. It never refuses wrongly; what it leaves open (a mask
that leaks in longer rows only, or in layers that it does not name) the guard of the run decides.
"""

from pathlib import Path

import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.core.slots import rows
from jaxablate.masks.algebra import Mask
from jaxablate.masks.atoms import Heads, Layers
from jaxablate.masks.leak import LeakReport, leak_report
from jaxablate.masks.parse import parse

_PROMPT, _RESPONSE = 6, 5


def refuse_leak(text: str) -> None:
    """Raise `UserError` if a response under this mask sees itself.

    >>> refuse_leak("prefix_lm")
    """
    report = leaks(parse(text))
    if report.leaks:
        raise UserError(
            f"mask {text!r} leaks: {report.sentence()}; allow_leaky: true runs it all the same, "
            "and every number says so"
        )


def refuse_absent(checkpoint: str) -> None:
    """Raise `UserError` if what is clearly a folder is not there; a hub id is asked for later."""
    is_folder = checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1
    if is_folder or Path(checkpoint).exists():
        from jaxablate.checkpoints.hub import resolve

        resolve(checkpoint)


def leaks(mask: Mask) -> LeakReport:
    """What the guard finds on a prompt of 6 and a response of 5 tokens."""
    length = _PROMPT + _RESPONSE
    slots = rows([length], length, [_PROMPT])
    following = np.arange(1, length + 1)
    supervised = (following >= _PROMPT) & (following < length)
    targets = np.where(supervised, following, -1)[None]
    # The fewest layers and heads that a model can have in which all named ones exist.
    layers = max(2, _last(mask, Layers) + 1)
    heads = _last(mask, Heads) + 1 or None
    masks = [mask.at(layer, None) for layer in range(layers)]
    return leak_report(masks, slots, targets, num_heads=heads)


def _last(mask: Mask, kind: type[Layers] | type[Heads]) -> int:
    """The last layer or head that a mask names; -1 when it names none."""
    ranges = [atom.ranges for atom in mask.atoms() if isinstance(atom, kind)]
    return max((last for found in ranges for _, last in found), default=-1)
