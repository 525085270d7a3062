"""WinoGrande: which of two words fills the blank (arXiv 1907.10641).

`standard` is partial scoring (arXiv 1806.02847): the text after the blank is scored, once after
each option, so both choices have the same continuation and different contexts.

`compat` scores option and rest after the text before the blank, which keeps its trailing space.
With a byte-level tokenizer that space is one token alone but merges into the option's first token
in the whole text; the reference cuts by token count, so that first token is never scored and a
one-token option is scored through the rest alone. Every such choice counts as a boundary mismatch.
"""

from jaxablate.core.errors import UserError
from jaxablate.data.sources import Row
from jaxablate.evaluation.task import TASKS, Rendered, Task, Variant, integer_label


def standard(row: Row) -> Rendered:
    """Before the blank + option, then a space and the rest."""
    if "_" not in row["sentence"]:
        raise UserError(f"the sentence has no blank '_': {row['sentence']!r:.80}")
    before, _, after = row["sentence"].partition("_")
    contexts = (before + row["option1"], before + row["option2"])
    rest = after.strip()
    return Rendered(contexts, (" " + rest,) * 2, (rest,) * 2, integer_label(row["answer"]) - 1)


def compat(row: Row) -> Rendered | None:
    """Before the blank, then option + rest as they stand; a row without a blank is left out."""
    if "_" not in row["sentence"]:
        return None
    before, _, after = row["sentence"].partition("_")
    choices = (row["option1"] + after, row["option2"] + after)
    return Rendered((before,) * 2, choices, choices, integer_label(row["answer"]) - 1)


TASK = TASKS.register("winogrande")(
    Task(
        data="winogrande",
        version=1,
        variants={
            "standard": Variant(render=standard, primary="acc"),
            "compat": Variant(render=compat, primary="acc_per_token"),
        },
    )
)
