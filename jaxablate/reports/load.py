"""Evaluation runs as their folders tell them. A folder may come from anybody, so it is checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json
from jaxablate.reports.shapes import match, read_lines
from jaxablate.runs.folder import METRICS, RECORDS, read_manifest

KIND = "evaluate"


@dataclass(frozen=True)
class TaskResult:
    """One task under one mask: the primary measure's numbers and where the records are."""

    folder: Path
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The task."""
        return self.values["task"]

    @property
    def instrument(self) -> bool:
        """Made by rule to tell masks apart; in no mean over benchmarks."""
        return bool(self.values.get("instrument"))

    @property
    def canary(self) -> bool:
        """Without an answer that could be known: a score above chance is a leak."""
        return bool(self.values.get("canary"))

    @property
    def measure(self) -> Mapping[str, Any]:
        """Value, interval, counts and verdict of the primary measure."""
        return self.values["measures"][self.values["accuracy_by"]]

    @cached_property
    def correct(self) -> dict[str, bool]:
        """Whether each item was answered rightly, from the records."""
        path = self.folder / RECORDS / Path(self.values["records"]).name
        found = {}
        for record in read_lines(path):
            try:
                answer = record["predictions"][self.values["accuracy_by"]]
                found[str(record["id"])] = answer == record["label"]
            except (KeyError, TypeError):
                raise UserError(f"{path}: a line is not a record of an item") from None
        counted = (len(found), sum(found.values()))
        told = (self.measure["n"], self.measure["correct"])
        if counted != told:
            raise UserError(
                f"{path}: has {counted[1]} right of {counted[0]} items, metrics.json says "
                f"{told[1]} of {told[0]}"
            )
        return found


@dataclass(frozen=True)
class MaskResult:
    """All tasks of a run under one mask."""

    values: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]

    @property
    def name(self) -> str:
        """The mask as the config has it."""
        return self.values["name"]

    @property
    def leaky(self) -> bool:
        """An answer can see itself."""
        return self.values["leaky"]


@dataclass(frozen=True)
class Folder:
    """What every kind of run has."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The run's name."""
        return str(self.manifest.get("id", self.path.name))

    @property
    def status(self) -> str:
        """done, running, interrupted or failed."""
        return str(self.manifest.get("status", "unknown"))

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings that determine the results."""
        return self.manifest["config"]


@dataclass(frozen=True)
class Run(Folder):
    """An evaluation. `results` is empty unless the run is done."""

    results: tuple[MaskResult, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of its tasks, in order."""
        return tuple(dict.fromkeys(task.name for one in self.results for task in one.tasks))


def load_run(path: str | Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: for a folder without an evaluation, or with files that are not as they should be.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such run folder")
    manifest = read_manifest(path)
    if manifest["kind"] != KIND or not isinstance(manifest["config"], dict):
        raise UserError(f"{path}: holds a run of {manifest['kind']!r}, wanted {KIND!r}")
    if manifest.get("status") != "done":
        return Run(path, manifest, ())
    metrics = read_json(path / METRICS)
    _check(metrics, path / METRICS)
    results = tuple(
        MaskResult(result, tuple(TaskResult(path, task) for task in result["tasks"]))
        for result in metrics["results"]
    )
    return Run(path, manifest, results)


_ESTIMATE = {"value": float, "low": float, "high": float}
_MEASURE = {**_ESTIMATE, "n": int, "correct": int, "verdict": str, "chance_corrected": _ESTIMATE}
_MACRO = {**_ESTIMATE, "chance": float, "chance_corrected": _ESTIMATE}
_TASK = {
    "task": str,
    "accuracy_by": str,
    "chance_per_item": float,
    "measures": dict,
    "records": str,
}
_RESULT = {"name": str, "mask": str, "leaky": bool, "tasks": list, "macro": {"primary": _MACRO}}


def _check(metrics: Any, path: Path) -> None:
    """Refuse metrics in which something that is shown is missing or of another kind."""
    match(metrics, {"results": list}, "", path)
    for index, result in enumerate(metrics["results"]):
        at = f"results[{index}]"
        match(result, _RESULT, at, path)
        for place, task in enumerate(result["tasks"]):
            here = f"{at}.tasks[{place}]"
            match(task, _TASK, here, path)
            match(task["measures"], {task["accuracy_by"]: _MEASURE}, f"{here}.measures", path)
