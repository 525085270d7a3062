"""Rows of all tasks to ids, with what has to be known about the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.data.sources import Rows, load_rows, source
from jaxablate.engine.layout import Question
from jaxablate.evaluation.config import BUNDLED, EvalConfig
from jaxablate.evaluation.encode import Encoded, EncodeRule, encode_items
from jaxablate.evaluation.task import find_task, render_rows


@dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """A task's items as ids. Its questions follow those of the tasks before it.

    Attributes:
        skipped: rows that the variant leaves out.
        data: origin, licence, digest and rows, as plain values.
    """

    name: str
    version: int
    primary: str
    encoded: Encoded
    skipped: int
    data: dict[str, Any]


def prepare(lm: Any, config: EvalConfig) -> list[PreparedTask]:
    """All tasks, in the order of the config.

    Raises:
        UserError: for data that is missing or wrong, or when too many tokens span the border of
            context and continuation.
    """
    rule = EncodeRule.of(
        lm.tokenizer,
        variant=config.variant,
        bos=config.bos,
        boundary=config.boundary,
        max_length=config.max_length or lm.config.max_position_embeddings,
    )
    prepared: list[PreparedTask] = []
    for name in config.tasks:
        first = len(all_questions(prepared))
        prepared.append(_prepare_task(lm, config, name, rule, first))
    return prepared


def all_questions(tasks: Sequence[PreparedTask]) -> list[Question]:
    """Questions of all tasks, numbered as their items name them."""
    return [question for task in tasks for question in task.encoded.questions]


def _prepare_task(
    lm: Any, config: EvalConfig, name: str, rule: EncodeRule, first: int
) -> PreparedTask:
    task = find_task(name)
    rows = load_rows(
        task.data,
        config.split,
        folder=config.data_folder,
        limit=config.limit,
        subset=config.subset,
        seed=config.subset_seed,
    )
    items, skipped = render_rows(task, config.variant, rows, config.split)
    if not items:
        raise UserError(f"{name}: none of {len(rows)} rows can be asked in {config.variant!r}")
    encoded = encode_items(items, lm.tokenizer, rule, first_question=first)
    _check_boundaries(config, name, encoded)
    return PreparedTask(
        name=name,
        version=task.version,
        primary=task.variant(config.variant).primary,
        encoded=encoded,
        skipped=skipped,
        data=_facts(task.data, config, rows),
    )


def _check_boundaries(config: EvalConfig, name: str, encoded: Encoded) -> None:
    share = encoded.boundary_mismatches / encoded.num_pairs
    if config.variant == "standard" and share > config.boundary_limit:
        raise UserError(
            f"{name}: in {encoded.boundary_mismatches} of {encoded.num_pairs} pairs a token spans "
            "the border of context and continuation, more than boundary_limit "
            f"{config.boundary_limit}; boundary=offset scores such tokens whole, and a higher "
            "limit accepts that they are cut by count"
        )


def _facts(name: str, config: EvalConfig, rows: Rows) -> dict[str, Any]:
    about = source(name)
    bundled = config.data in BUNDLED and not about.made
    ours = config.data == "samples"
    return {
        "origin": f"bundled {config.data}" if bundled else rows.origin,
        "licence": "Apache-2.0" if ours else about.licence,
        "home": "jaxablate" if ours else about.home,
        "digest": rows.digest,
        "split": config.split,
        "rows_in_split": rows.total,
        "rows": len(rows),
        # A head or the whole split says which rows they are; a random choice is spelled out.
        "chosen": list(rows.indices) if config.limit and config.subset == "random" else None,
    }
