"""Run folders as they look from outside: which there are, how far each is, who still works."""

import calendar
import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json
from jaxablate.runs.folder import MANIFEST, METRICS, RECORDS, TRAINING, read_manifest
from jaxablate.runs.lock import NAME as LOCK
from jaxablate.runs.lock import owner_facts
from jaxablate.runs.metrics import parse_whole

METRIC_LINES, SUMMARY = "metrics.jsonl", "summary.json"
RUNNING, DEAD, UNREADABLE = "running", "dead", "unreadable"

# The end of metrics.jsonl that is read for the newest numbers, and what clocks may differ by.
_TAIL_BYTES = 1 << 16
_SLACK_S = 5.0
_DAMAGE = (UserError, KeyError, TypeError, ValueError, IndexError, ZeroDivisionError)


@dataclass(frozen=True)
class RunView:
    """A run at a glance.

    Attributes:
        path: its folder.
        id: what its manifest calls it.
        kind: "evaluate", "finetune" or another; "?" where the manifest cannot be read.
        status: done, "stopped: <reason>" for a finetuning that a rule ended, running, dead (its
            manifest says running, its process is gone), interrupted, failed or unreadable.
        done: steps of a finetuning, masks of an evaluation; None where that is not known.
        planned: how many there will be.
        result: name and value of the newest training loss, or of the macro accuracy under the
            first mask.
        created: when it was first started, seconds since 1970.
    """

    path: Path
    id: str
    kind: str
    status: str
    done: int | None = None
    planned: int | None = None
    result: tuple[str, float] | None = None
    created: float = 0.0


def list_runs(root: str | Path) -> list[RunView]:
    """All runs in a folder and below, the newest last. What lies inside a run is its own affair.

    Raises:
        UserError: when there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of runs")
    views = [view(path) for path in _run_folders(root)]
    return sorted(views, key=lambda run: (run.created, str(run.path)))


def newest_run(root: str | Path) -> Path:
    """The run below a folder whose metrics were written last.

    Raises:
        UserError: when no run there writes metrics.
    """
    root = Path(root)
    logs = [run.path / METRIC_LINES for run in list_runs(root)]
    written = [(log.stat().st_mtime_ns, str(log), log) for log in logs if log.is_file()]
    if not written:
        raise UserError(f"{root}: has no run with metrics")
    return max(written)[2].parent


def view(path: str | Path) -> RunView:
    """One run; what is damaged in it is left out."""
    path = Path(path)
    try:
        manifest = read_manifest(path)
    except UserError:
        return RunView(path, path.name, "?", UNREADABLE)
    name, kind = str(manifest.get("id", path.name)), str(manifest["kind"])
    look = {**dict.fromkeys(TRAINING, _finetune), "evaluate": _evaluate}.get(kind)
    facts: dict[str, Any] = {}
    # A run that is damaged or being made is still a run.
    with contextlib.suppress(*_DAMAGE):
        facts = look(path, manifest) if look else {}
    status = facts.pop("status", None) or run_status(path, manifest)
    created = _seconds(manifest.get("created")) or 0.0
    return RunView(path, name, kind, status, created=created, **facts)


def run_status(path: Path, manifest: dict[str, Any] | None = None) -> str:
    """What the manifest says; "dead" when it says running and the process is gone."""
    status = str((manifest or read_manifest(path)).get("status", UNREADABLE))
    return DEAD if status == RUNNING and not has_owner(path) else status


def has_owner(path: Path) -> bool:
    """Whether the process that last opened the run is there; yes if it is on another machine.

    The lock itself is not tried: for a moment nobody else could take it.
    """
    try:
        owner = json.loads((path / LOCK).read_bytes())
        pid, here = int(owner["pid"]), owner_facts()
    except (OSError, ValueError, TypeError, KeyError):
        return False
    if owner.get("host") != here["host"]:
        return True
    return owner.get("boot") == here["boot"] and _is_alive(pid, _seconds(owner.get("since")))


class NewLines:
    """Lines of a file of metrics as they come; of one that was cut, those after the cut."""

    def __init__(self, path: str | Path):
        self.path, self._offset = Path(path), 0

    def read(self) -> list[dict[str, Any]]:
        """Entries since the last call; a line that is not finished waits."""
        try:
            with open(self.path, "rb") as file:
                self._offset = min(self._offset, file.seek(0, os.SEEK_END))
                file.seek(self._offset)
                raw = file.read()
        except OSError:
            return []
        whole = raw[: raw.rfind(b"\n") + 1]
        self._offset += len(whole)
        return parse_whole(whole)


def _run_folders(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        path = Path(folder)
        names[:] = sorted(name for name in names if not name.startswith("."))
        if MANIFEST in files and _is_run(path):
            names.clear()
            yield path


def _is_run(path: Path) -> bool:
    """Checkpoints have a manifest too; one that cannot be read counts if a run has locked it."""
    try:
        manifest = read_json(path / MANIFEST)
    except UserError:
        return (path / LOCK).exists()
    return isinstance(manifest, dict) and "config" in manifest and "kind" in manifest


def _finetune(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"planned": int(manifest["config"]["steps"]), "done": 0}
    lines = _last_lines(path / METRIC_LINES)
    if lines:
        facts["done"] = int(lines[-1]["step"])
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    if losses:
        facts["result"] = ("loss", float(losses[-1]))
    if manifest["status"] == "done":
        summary = read_json(path / SUMMARY)
        facts["done"] = int(summary["steps_done"])
        if summary["stopped"]:
            facts["status"] = f"stopped: {summary['stop_reason']}"
    return facts


def _evaluate(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    config = manifest["config"]
    # A mask's records are written when all tasks under it are scored.
    num_files = len(list((path / RECORDS).glob("*.jsonl")))
    done = num_files // len(config["tasks"])
    facts: dict[str, Any] = {"planned": len(config["masks"]), "done": done}
    if manifest["status"] == "done":
        first = read_json(path / METRICS)["results"][0]
        facts["result"] = (f"accuracy, {first['name']}", float(first["macro"]["primary"]["value"]))
    return facts


def _last_lines(path: Path) -> list[dict[str, Any]]:
    """Entries at the end of a file of metrics; none where there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            raw = file.read()
    except OSError:
        return []
    # A line whose start was not read is no JSON and is left out with the unfinished one.
    return parse_whole(raw[: raw.rfind(b"\n") + 1])


def _is_alive(pid: int, since: float | None) -> bool:
    """Whether a process of this machine runs and is not a later one with the same number."""
    try:
        # After the name in parentheses: state, and as the 20th word the start in ticks since boot.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except FileNotFoundError:
        return _answers(pid) if not Path("/proc/self/stat").exists() else False
    except (OSError, ValueError, IndexError):
        return _answers(pid)
    if words[0] in "ZX":
        return False
    age = uptime - float(words[19]) / os.sysconf("SC_CLK_TCK")
    return since is None or age >= time.time() - since - _SLACK_S


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _seconds(text: Any) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None
