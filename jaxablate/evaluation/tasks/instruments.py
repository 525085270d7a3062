"""The instruments: questions made by rule, described one by one in `jaxablate.data.synthetic`.

The wording is the same in every variant. Answers are of equal length in words, so the summed
log-likelihood (acc) is the measure.
"""

from dataclasses import replace

from jaxablate.data.sources import Row
from jaxablate.data.synthetic import instrument_names
from jaxablate.evaluation.task import (
    TASKS,
    Rendered,
    Task,
    Variant,
    integer_label,
    same_context,
)


def render(row: Row) -> Rendered:
    """The prompt as it was made, a choice after each a space; its parts are kept."""
    rendered = same_context(row["prompt"], row["choices"], integer_label(row["label"]))
    return replace(rendered, parts=tuple(row["parts"]))


VARIANTS = {
    "standard": Variant(render=render, primary="acc"),
    "compat": Variant(render=render, primary="acc_per_token"),
}
for _name in instrument_names():
    TASKS.register(_name)(
        Task(
            data=_name,
            version=1,
            variants=VARIANTS,
            instrument=True,
            canary=_name == "null_mcq",
        )
    )
