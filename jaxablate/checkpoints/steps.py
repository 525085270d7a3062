"""The saved steps of a training run: whole or not there, verified, never silently wrong.

    checkpoints/
        step-00000020/                 see step_folder.py
        .step-00000040.partial-<owner> being written, or left by a process that died
        step-00000030.bad-1            found damaged, kept for whoever wants to look

A step is written under a hidden name, digested, made durable, and renamed; only then are older
ones removed. The writing goes on beside the training.
"""

import json
import logging
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxablate.checkpoints.background import Background, SaveError
from jaxablate.checkpoints.commit import make_durable
from jaxablate.checkpoints.step_cleanup import (
    owner_name,
    partial_path,
    remove_left_over,
    remove_step,
    set_aside,
)
from jaxablate.checkpoints.step_folder import (
    Saved,
    describe,
    name_of,
    read_arrays,
    read_step,
    snapshot,
    step_of,
    write_arrays,
    write_record,
)
from jaxablate.core import processes
from jaxablate.core.errors import UserError
from jaxablate.core.failpoints import failpoint
from jaxablate.core.files import sync_folder

__all__ = ["SaveConfig", "SaveError", "Saved", "StepStore"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """When a run saves, and what it keeps.

    Attributes:
        every_steps: steps from one save to the next.
        keep_last: how many of the newest steps stay.
        keep_best: whether the step with the best held-out loss stays.
        keep_every: steps that are multiples of this stay; 0: none for that reason.
    """

    every_steps: int = 200
    keep_last: int = 1
    keep_best: bool = True
    keep_every: int = 0

    def __post_init__(self) -> None:
        for name, least in (("every_steps", 1), ("keep_last", 1), ("keep_every", 0)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"save {name} must be at least {least}, got {value}")


class StepStore:
    """The steps below `folder`.

    Several processes of one program each have a store of the same folder and call `save`, `wait`
    and `restore` together; one of them is the writer, which commits.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fence: Callable[[], None] | None = None,
        is_writer: bool = True,
        timeout_s: float = 600.0,
    ):
        """A store; nothing is touched yet. Several processes make theirs together.

        Args:
            folder: where the steps are; made by the first save.
            fence: raises when another process owns the run now; asked before every change.
            is_writer: whether this process commits.
            timeout_s: how long a save may take.
        """
        self.folder, self.is_writer = Path(folder), is_writer
        self._fence = fence
        self._background = Background(timeout_s)
        # Agreed on here, where all processes meet: `newest` is for the writer alone.
        mark = processes.agree(secrets.randbits(31))
        self._owner = owner_name(mark, shared=processes.count() > 1)

    def save(
        self,
        step: int,
        arrays: Mapping[str, jax.Array],
        record: Mapping[str, Any],
        *,
        keep: Collection[int] | None = None,
    ) -> None:
        """Begin to save a step; returns as soon as the device arrays may be overwritten.

        Args:
            step: not saved yet.
            arrays: by name; bool, integer or floating, of any sharding.
            record: plain JSON values without NaN, given back by `newest` and `open`.
            keep: the steps that stay; all others but this one are removed after this is durable.
                None keeps all.

        Raises:
            SaveError: when the save before this one failed, or this step is there already.
            UserError: what `fence` raised in the save before this one.
        """
        self.wait()
        target = self.folder / name_of(step)
        if self.is_writer and target.exists():
            raise SaveError(f"{target}: is there already; a saved step is never replaced")
        job = _Job(
            step=step,
            target=target,
            hidden=partial_path(target, self._owner),
            arrays=snapshot(arrays),
            record=json.loads(json.dumps(record, allow_nan=False)),
            keep=None if keep is None else frozenset({*keep, step}),
        )
        # Several processes have to begin together, before any of them goes on to its next step.
        together = self._begin(job) if processes.count() > 1 else None
        self._background.start(str(target), lambda: self._finish(job, together))

    def wait(self) -> None:
        """Until everything is committed.

        Raises:
            SaveError: when a save failed, or takes longer than `timeout_s`.
            UserError: what `fence` raised.
        """
        self._background.wait()

    def steps(self) -> list[int]:
        """The committed steps, ascending."""
        if not self.folder.is_dir():
            return []
        found = (step_of(path.name) for path in self.folder.iterdir() if path.is_dir())
        return sorted(step for step in found if step is not None)

    def newest(self, *, max_fallback: int = 1) -> Saved | None:
        """The newest step that is intact; None when there is none at all.

        Damaged steps after it are renamed to `<name>.bad-<n>`, with a warning. Folders that dead
        processes left half written are removed.

        Raises:
            UserError: naming the damaged file, when more than `max_fallback` steps are damaged or
                no earlier step is left; nothing is renamed then.
        """
        if self.is_writer and self.folder.is_dir():
            self._check_fence()
            remove_left_over(self.folder, self._owner, is_sole=self._fence is not None)
        damaged: list[tuple[int, UserError]] = []
        for step in reversed(self.steps()):
            try:
                saved = self.open(step)
            except UserError as error:
                damaged.append((step, error))
                if len(damaged) > max_fallback:
                    raise UserError(
                        f"{damaged[0][1]}; the newest {len(damaged)} saved steps are damaged, and "
                        f"at most {max_fallback} may be passed over"
                    ) from None
                continue
            self._quarantine(damaged, saved)
            return saved
        if damaged:
            raise UserError(f"{damaged[0][1]}; no earlier saved step is left to go back to")
        return None

    def open(self, step: int) -> Saved:
        """A step, every file of it compared with its digest.

        Raises:
            UserError: naming the file that is missing, foreign, or changed by even one bit.
        """
        return read_step(self.folder / name_of(step))

    def restore(
        self, saved: Saved, wanted: Mapping[str, jax.ShapeDtypeStruct]
    ) -> dict[str, jax.Array]:
        """The arrays of a step, bit for bit, on the shardings of `wanted`.

        Raises:
            UserError: when names, shapes or dtypes are not exactly those wanted.
        """
        return read_arrays(saved.path, wanted)

    def _begin(self, job: "_Job") -> Callable[[], object]:
        """Start the writers; the result waits for them."""
        failpoint("save.begin")
        if self.is_writer:
            job.hidden.mkdir(parents=True)
        return write_arrays(job.hidden, job.arrays)

    def _finish(self, job: "_Job", written: Callable[[], object] | None) -> None:
        try:
            (written or self._begin(job))()
            failpoint("save.data_done")
            if self.is_writer:
                self._commit(job)
        except BaseException:
            if self.is_writer:
                shutil.rmtree(job.hidden, ignore_errors=True)
            raise
        if self.is_writer and job.keep is not None:
            self._prune(job.keep)

    def _commit(self, job: "_Job") -> None:
        write_record(job.hidden, describe(job.step, job.arrays, job.record))
        failpoint("save.digest_done")
        make_durable(job.hidden)
        failpoint("save.before_commit")
        self._check_fence()
        job.hidden.rename(job.target)
        sync_folder(self.folder)
        failpoint("save.after_commit")

    def _prune(self, keep: Collection[int]) -> None:
        failpoint("save.before_prune")
        for step in self.steps():
            if step not in keep:
                self._check_fence()
                remove_step(self.folder / name_of(step), self._owner)
        sync_folder(self.folder)
        failpoint("save.after_prune")

    def _quarantine(self, damaged: Sequence[tuple[int, UserError]], instead: Saved) -> None:
        for step, error in damaged if self.is_writer else ():
            bad = set_aside(self.folder / name_of(step))
            LOG.warning("%s; kept as %s, going back to step %d", error, bad.name, instead.step)

    def _check_fence(self) -> None:
        if self._fence is not None:
            self._fence()


class _Job(NamedTuple):
    step: int
    target: Path
    hidden: Path
    arrays: dict[str, Any]
    record: dict[str, Any]
    keep: frozenset[int] | None
