"""Whether the trained models of a comparison saw equally much."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxablate.reports.matrix import Matrix

MOST = 0.01


def budget(matrix: Matrix) -> Iterator[str]:
    """A sentence for each trained model that saw more or fewer targets than the judged one.

    A target is a token that is learned.
    """
    trained = [model for model in matrix.trained if model.run and _seen(model.run.summary)]
    for model in trained[1:]:
        assert model.run and trained[0].run
        own, wanted = _seen(model.run.summary), _seen(trained[0].run.summary)
        share = own / wanted - 1
        if abs(share) > MOST:
            yield (
                f"Budget: {model.name} saw {own:,} targets, {trained[0].name} {wanted:,} "
                f"({share:+.1%}): not a comparison of equal tokens."
            )


def _seen(summary: Mapping[str, Any]) -> int:
    found = summary.get("targets_seen")
    return found if isinstance(found, int) else 0
