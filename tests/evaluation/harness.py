"""lm-evaluation-harness' own tasks on rows of ours, without a network."""

import contextlib
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest


def quiet():
    """Warnings of the harness and of what it imports are not ours to fail on."""
    context = contextlib.ExitStack()
    context.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    return context


def task_config(name: str, rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The harness' task `name`, with its data replaced by `rows` as its only split."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"validation": str(path)}, "cache_dir": str(folder)},
        "training_split": None,
        "validation_split": "validation",
        "test_split": None,
    }


def harness_task(name: str, rows: list[dict[str, Any]], folder: Path) -> Any:
    """An instance of the harness' own task class."""
    group = {"group": "ours", "task": [task_config(name, rows, folder)]}
    with quiet():
        (task,) = task_manager().load([group])["tasks"].values()
    return task


@cache
def task_manager() -> Any:
    """The harness' index of the five tasks alone; the whole one takes seconds to read."""
    lm_eval = pytest.importorskip("lm_eval")
    with quiet():
        from lm_eval.tasks import TaskManager

        home = Path(lm_eval.__file__).parent / "tasks"
        folders = [home / name for name in ("hellaswag", "piqa", "arc", "winogrande")]
        return TaskManager(include_path=folders, include_defaults=False)


def harness_requests(task: Any) -> list[list[tuple[str, str]]]:
    """(context, continuation) of each choice of each row, zero-shot."""
    with quiet():
        task.build_all_requests(limit=None, rank=0, world_size=1)
    grouped: dict[int, list[Any]] = {}
    for instance in task.instances:
        grouped.setdefault(instance.doc_id, []).append(instance)
    return [
        [instance.args for instance in sorted(grouped[doc], key=lambda instance: instance.idx)]
        for doc in sorted(grouped)
    ]


def harness_gold(task: Any, doc: dict[str, Any]) -> int:
    """Index of the right choice, as the harness scores it."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    return int(gold)
