"""PIQA: which of two solutions reaches the goal (arXiv 1911.11641)."""

from jaxablate.data.sources import Row
from jaxablate.evaluation.task import (
    TASKS,
    Rendered,
    Task,
    Variant,
    collapse,
    integer_label,
    same_context,
)


def standard(row: Row) -> Rendered:
    """`Question: goal`, `Answer:`; nothing is trimmed."""
    context = f"Question: {row['goal']}\nAnswer:"
    return same_context(context, [row["sol1"], row["sol2"]], integer_label(row["label"]))


def compat(row: Row) -> Rendered:
    """The goal alone before `Answer:`; whitespace is collapsed."""
    solutions = [collapse(row["sol1"]), collapse(row["sol2"])]
    return same_context(f"{collapse(row['goal'])}\nAnswer:", solutions, integer_label(row["label"]))


TASK = TASKS.register("piqa")(
    Task(
        data="piqa",
        version=1,
        variants={
            "standard": Variant(render=standard, primary="acc_norm"),
            "compat": Variant(render=compat, primary="acc_per_token"),
        },
    )
)
