"""Metrics of a training run in TensorBoard and in Weights & Biases, next to the run's own files.

Both are optional installs. A resumed run goes on in the same place, and no step stands there twice.
A tracker that fails later on is switched off; see `runs.observer`.
"""

import importlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import digest, read_json, write_json
from jaxablate.runs.folder import clean
from jaxablate.runs.observer import Observer

# What of a line of metrics says where it belongs and is no measurement.
_KEYS = {"step", "kind", "mask", "leaky"}


def make_tracker(name: str) -> Observer:
    """A tracker by name, "tensorboard" or "wandb".

    Raises:
        UserError: for another name, or when its package is not installed.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    return TRACKERS[name]()


class TensorBoard:
    """Event files in `<run folder>/tensorboard`, for `tensorboard --logdir`."""

    FOLDER = "tensorboard"

    def __init__(self) -> None:
        self._package = _package("tensorboardX", "tensorboard")
        self._writer: Any = None

    def on_begin(self, facts: dict[str, Any]) -> None:
        """Open a new event file; what earlier ones hold beyond the run's progress is hidden."""
        # A run that starts anew writes step 0 again; one that goes on has written its last step.
        lines = facts.get("position", facts["step"])
        folder = Path(facts["path"]) / self.FOLDER
        attempt = len(list(folder.glob("events.*")))
        self._writer = self._package.SummaryWriter(
            str(folder),
            purge_step=facts["step"] + 1 if lines else 0,
            # Files are named by the second, and one of the same name would be written over.
            filename_suffix=f".{attempt:04}",
            flush_secs=1,
        )
        if not lines:
            config = json.dumps(facts.get("config", {}), indent=1, ensure_ascii=False)
            self._writer.add_text("config", f"```\n{config}\n```", 0)

    def on_metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """A point of every curve; a thread writes it within a second or so."""
        for name, value in values(entry, timing).items():
            self._writer.add_scalar(name, value, entry["step"])

    def on_note(self, sentence: str) -> None:
        """Nothing: TensorBoard has no place for it."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """How the run ended, as text."""
        self._writer.add_text("end", summary["sentence"], summary["steps_done"])
        self.close()

    def close(self) -> None:
        """Close the event file; a second time does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WandB:
    """A run of Weights & Biases; project, account and mode are wandb's own settings.

    Its id is kept in `<run folder>/wandb.json`. A repeated step has the same values as before, so
    steps that the server knows already are not sent again.
    """

    FILE = "wandb.json"

    def __init__(self) -> None:
        self._package = _package("wandb", "wandb")
        self._run: Any = None
        self._known = 0

    def on_begin(self, facts: dict[str, Any]) -> None:
        """Start the run of this folder, or go on with it."""
        folder = Path(facts["path"])
        self._run = self._package.init(
            id=self._id(folder),
            name=facts["run"],
            dir=str(folder),
            config=facts.get("config", {}),
            resume="allow",
        )
        self._known = self._run.step

    def on_metrics(self, entry: dict[str, Any], timing: dict[str, Any] | None) -> None:
        """A point of every curve; lines of one step become one row there."""
        if entry["step"] >= self._known:
            self._run.log(values(entry, timing), step=entry["step"])

    def on_note(self, sentence: str) -> None:
        """Nothing: wandb shows what the terminal shows."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """How the run ended, among its summary values."""
        names = ("stop_reason", "sentence", "steps_done", "steps_planned", "best")
        self._run.summary.update({name: summary[name] for name in names})
        self.close()

    def close(self) -> None:
        """End the run there; a second time does nothing."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _id(self, folder: Path) -> str:
        path = folder / self.FILE
        if not path.exists():
            write_json(path, {"id": uuid.uuid4().hex})
        return read_json(path)["id"]


TRACKERS: dict[str, Callable[[], Observer]] = {"tensorboard": TensorBoard, "wandb": WandB}


def values(entry: Mapping[str, Any], timing: Mapping[str, Any] | None = None) -> dict[str, float]:
    """The measurements of a line by the names of their curves.

    >>> values({"step": 5, "kind": "eval", "mask": "prefix_lm", "loss": 1.5, "leaky": False})
    {'held_out/prefix_lm/loss': 1.5}
    """
    place = "train" if entry["kind"] == "train" else f"held_out/{_mask_name(entry['mask'])}"
    found = {f"{place}/{key}": value for key, value in entry.items() if key not in _KEYS}
    for key, value in (timing or {}).items():
        if key != "step" and value is not None:
            found[f"speed/{key}"] = value
    return found


def _mask_name(mask: str) -> str:
    """A mask in the name of a curve: algebra is no name there and would lose its operators."""
    if re.fullmatch(r"[A-Za-z0-9_]+", mask):
        return mask
    return f"{clean(mask)[:40]}-{digest(mask)[:6]}"


def _package(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module:
            raise
        raise UserError(f"{module} is not installed: pip install 'jaxablate[{extra}]'") from None
