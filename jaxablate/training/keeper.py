"""When a run saves, what it writes beside the arrays, and which checkpoints stay."""

import json
from collections.abc import Mapping
from typing import Any

from jaxablate.checkpoints.steps import SaveConfig, Saved, StepStore
from jaxablate.core import processes
from jaxablate.core.config import differences
from jaxablate.core.errors import UserError
from jaxablate.training.progress import Progress
from jaxablate.training.snapshot import digest, from_arrays, to_arrays, wanted
from jaxablate.training.state import TrainState


class Keeper:
    """Saves and restores a run's state. `facts` describe the run and must not change."""

    def __init__(self, store: StepStore, config: SaveConfig, facts: Mapping[str, Any]):
        self.store, self.config = store, config
        # As they come back from a checkpoint: JSON has no tuples.
        self.facts = json.loads(json.dumps(facts))
        self.saved = -1

    def due(self, step: int) -> bool:
        """Whether a regular save is due after so many steps."""
        return step % self.config.every_steps == 0

    def save(self, state: TrainState, progress: Progress, *, best: int | None) -> None:
        """Start writing a checkpoint; the device arrays may be written over when this returns."""
        if progress.step == self.saved:
            return
        self.store.wait()
        record = {**self.facts, "progress": progress.to_json()}
        keep = self._keep(progress.step, best)
        self.store.save(progress.step, to_arrays(state), record, keep=keep)
        self.saved = progress.step

    def _keep(self, new: int, best: int | None) -> set[int]:
        steps = sorted({*self.store.steps(), new})
        keep = set(steps[-self.config.keep_last :])
        if best is not None:
            keep.add(best)
        if self.config.keep_every:
            keep.update(step for step in steps if step % self.config.keep_every == 0)
        return keep

    def restore(self, state: TrainState) -> tuple[TrainState, Progress] | None:
        """The newest saved state, in place of a new one; None when nothing was saved.

        Raises:
            UserError: when the checkpoint is of another run than `facts` say.
        """
        newest = self.store.newest() if processes.is_first() else None
        step = processes.agree(-1 if newest is None else newest.step)
        if step < 0:
            return None
        saved = newest or self.store.open(step)
        self._check(saved)
        restored = self._read(saved, state)
        self.saved = step
        return restored, Progress(**saved.record["progress"])

    def drill(self, state: TrainState) -> TrainState:
        """Save before the first step and go on with what is read back.

        Raises:
            UserError: when that differs by even one bit.
        """
        before = digest(to_arrays(state))
        self.save(state, Progress(), best=None)
        self.store.wait()
        like = _free(state)
        processes.agree(0)  # the folder is there when everybody reads it
        found = self._read(self.store.open(0), like)
        if digest(to_arrays(found)) != before:
            raise UserError(
                f"{self.store.folder}: a checkpoint reads back differently; not trained"
            )
        return found

    def _read(self, saved: Saved, like: TrainState) -> TrainState:
        return from_arrays(self.store.restore(saved, wanted(like)), like)

    def _check(self, saved: Saved) -> None:
        before = {name: saved.record.get(name) for name in self.facts}
        changed = differences(before, self.facts)
        if changed:
            raise UserError(f"{saved.path}: was saved by another run: {'; '.join(changed[:3])}")


def _free(state: TrainState) -> TrainState:
    """Give the arrays' memory back; their shapes and places can still be asked for."""
    for array in to_arrays(state).values():
        array.delete()
    return state
