"""ARC, the easy set: school science questions with three to five answers (arXiv 1803.05457)."""

from jaxablate.core.errors import UserError
from jaxablate.data.sources import Row
from jaxablate.evaluation.task import TASKS, Rendered, Task, Variant, collapse, same_context


def standard(row: Row) -> Rendered:
    """`Question: ...`, `Answer:`; answers are spelled out, not lettered."""
    labels = row["choices"]["label"]
    if row["answerKey"] not in labels:
        raise UserError(
            f"answerKey {row['answerKey']!r} is not among {', '.join(map(str, labels))}"
        )
    context = f"Question: {row['question']}\nAnswer:"
    return same_context(context, row["choices"]["text"], labels.index(row["answerKey"]))


def compat(row: Row) -> Rendered | None:
    """The question alone before `Answer:`; a row whose key is no label is left out."""
    labels = row["choices"]["label"]
    if row["answerKey"] not in labels:
        return None
    answers = [collapse(answer) for answer in row["choices"]["text"]]
    context = f"{collapse(row['question'])}\nAnswer:"
    return same_context(context, answers, labels.index(row["answerKey"]))


VARIANTS = {
    "standard": Variant(render=standard, primary="acc_norm"),
    "compat": Variant(render=compat, primary="acc_per_token"),
}
TASK = TASKS.register("arc_easy")(Task(data="arc_easy", version=1, variants=VARIANTS))
