"""Whether the trained models of a comparison saw equally much."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxablate.reports.matrix import Matrix

MOST = 0.01


def budget(matrix: Matrix) -> Iterator[str]:
    """A sentence for each trained model that saw more or fewer targets than the judged one.

    A target is a token that is learned.
    """
    found = [(m.name, _seen(m.run.summary)) for m in matrix.trained if m.run]
    found = [(name, seen) for name, seen in found if seen]
    for name, own in found[1:]:
        judged, wanted = found[0]
        share = own / wanted - 1
        if abs(share) > MOST:
            yield (
                f"Budget: {name} saw {own:,} targets, {judged} {wanted:,} "
                f"({share:+.1%}): not a comparison of equal tokens."
            )


def _seen(summary: Mapping[str, Any]) -> int:
    found = summary.get("targets_seen")
    return found if isinstance(found, int) else 0
