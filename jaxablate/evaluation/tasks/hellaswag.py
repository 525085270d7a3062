"""HellaSwag: which of four endings continues the description (arXiv 1905.07830)."""

import re

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

BRACKETED = re.compile(r"\[.*?\]")


def clean(text: str) -> str:
    """WikiHow's bracket marks removed; double spaces halved once, as the harness does."""
    without_title = text.strip().replace(" [title]", ". ")
    return BRACKETED.sub("", without_title).replace("  ", " ")


def standard(row: Row) -> Rendered:
    """`activity: ctx_a Ctx_b`, cleaned."""
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    endings = [clean(ending) for ending in row["endings"]]
    return same_context(clean(context), endings, integer_label(row["label"]))


def compat(row: Row) -> Rendered:
    """Bracket marks stay and ctx_b keeps its case; whitespace is collapsed."""
    context = collapse(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b']}")
    endings = [collapse(ending) for ending in row["endings"]]
    return same_context(context, endings, integer_label(row["label"]))


TASK = TASKS.register("hellaswag")(
    Task(
        data="hellaswag",
        version=1,
        variants={
            "standard": Variant(render=standard, primary="acc_norm"),
            "compat": Variant(render=compat, primary="acc_per_token"),
        },
    )
)
