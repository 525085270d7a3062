"""Which weights are trained: paths such as "layers/3/mlp/up/weight" against shell patterns."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from jaxablate.core.errors import UserError, nearest

T = TypeVar("T")


def split(
    weights: Mapping[str, T], frozen: Sequence[str] = ()
) -> tuple[dict[str, T], dict[str, T]]:
    """Weights to train and weights to leave as they are; `*` also crosses "/".

    >>> split({"embedding/weight": 1, "layers/0/mlp/up/weight": 2}, ["embed*"])
    ({'layers/0/mlp/up/weight': 2}, {'embedding/weight': 1})

    Raises:
        UserError: for a pattern that fits no weight, or when nothing is left to train.
    """
    for pattern in frozen:
        if not any(fnmatchcase(path, pattern) for path in weights):
            guess = nearest(pattern, weights)
            example = guess or next(iter(weights), "")
            raise UserError(f"frozen pattern {pattern!r} fits no weight; one is {example!r}")
    still = {p for p in weights if any(fnmatchcase(p, pattern) for pattern in frozen)}
    if len(still) == len(weights):
        raise UserError(f"frozen patterns {list(frozen)} leave no weight to train")
    trained = {path: weight for path, weight in weights.items() if path not in still}
    return trained, {path: weight for path, weight in weights.items() if path in still}
