"""A model's own sliding window joined with an experiment's mask, by a named policy.

Mistral, Qwen and Gemma were trained with causal windows. What the window means once the mask looks
ahead is a choice of the experiment, so it has a name:

| policy | a query at position q keeps keys k with |
|---|---|
| causal_side | `q - k < window`; what lies ahead is not limited |
| both_sides | `abs(q - k) < window` |
| hf | `q - k < window` if the mask never looks ahead, else `abs(q - k) <= window`: transformers |
| drop | no window at all |

On a causal mask the first three are the same.
"""

from jaxablate.core.errors import unknown
from jaxablate.masks.algebra import And, Mask, Not, Nothing, Or, SameSegment
from jaxablate.masks.atoms import Causal, Window

POLICIES = ("causal_side", "both_sides", "hf", "drop")


def with_window(mask: Mask, window: int | None, policy: str) -> Mask:
    """`mask` limited by the model's window; `window` None is a layer without one.

    >>> from jaxablate.masks import parse
    >>> print(with_window(parse("causal | within(prompt)"), 4096, "both_sides"))
    (causal | within(prompt)) & window(4096, 4095)
    """
    if policy not in POLICIES:
        raise unknown("window policy", policy, POLICIES)
    if window is None or policy == "drop":
        return mask
    symmetric = policy == "both_sides" or (policy == "hf" and not never_looks_ahead(mask))
    if not symmetric:
        return mask & Window(window)
    return mask & (
        Window(window, window - 1) if policy == "both_sides" else Window(window + 1, window)
    )


def never_looks_ahead(mask: Mask) -> bool:
    """Whether the algebra shows that no key after the query is open (sound, not complete).

    A mask that differs between layers must be resolved first; otherwise the answer is no.

    >>> from jaxablate.masks import parse
    >>> never_looks_ahead(parse("gist")), never_looks_ahead(parse("prefix_lm"))
    (True, False)
    """
    match mask:
        case Not(term):
            return _opens_all_ahead(term)
        case And(terms):
            return any(map(never_looks_ahead, terms))
        case Or(terms):
            return all(map(never_looks_ahead, terms))
        case Window(_, 0) | Causal() | Nothing():
            return True
    return False


def _opens_all_ahead(mask: Mask) -> bool:
    match mask:
        case Not(term):
            return never_looks_ahead(term)
        case And(terms):
            return all(map(_opens_all_ahead, terms))
        case Or(terms):
            return any(map(_opens_all_ahead, terms))
        case Window(_, None) | SameSegment():
            return True
    return False
