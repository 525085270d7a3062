"""A batch made ready for a step: guarded against leaks, its mask lowered, its rows on the mesh."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from jaxablate.checkpoints.placement import whole
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import place
from jaxablate.data.batch import Batch, target_slots
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY, MaskPlan, MaskStructure, layer_masks
from jaxablate.masks.algebra import Mask
from jaxablate.masks.leak import LeakError, LeakReport, leak_report
from jaxablate.models.config import DecoderConfig

# Rows are spread over both; devices along "tensor" share theirs.
ROW_AXES = ("data", "fsdp")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepInputs:
    """Arrays of one batch, [A, B, T]: A microbatches of B rows; so are those in the plan."""

    tokens: Any  # Int32[A B T]
    positions: Any  # Int32[A B T]
    targets: Any  # Int32[A B T]
    weights: Any  # Float32[A B T]
    plan: MaskPlan


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How host batches become `StepInputs` under one mask; everything here runs on the host.

    Attributes:
        mask: who may attend to whom in training.
        config: the decoder's.
        microbatches: parts of a batch that run one after the other.
        allow_leaky: train even where a token can see its own target.
        window_policy: what becomes of the model's own sliding window.
        kernel: attention kernel, or "auto".
        mesh: the devices that rows are spread over; None is one device.
    """

    mask: Mask
    config: DecoderConfig
    microbatches: int = 1
    allow_leaky: bool = False
    window_policy: str = DEFAULT_WINDOW_POLICY
    kernel: str = "auto"
    mesh: Mesh | None = None

    def __call__(self, batch: Batch) -> StepInputs:
        """The inputs of one step, on the devices.

        Raises:
            LeakError: when a supervised token can see its own target and `allow_leaky` is off.
            UserError: for rows that do not divide, or tokens outside the vocabulary.
        """
        self.check(batch)
        if not self.allow_leaky and (report := self.leaks(batch)).leaks:
            raise LeakError(report)
        plan = self._structure.lower(batch.slots, batch.slots, kernel=self.kernel)
        weights = batch.loss_mask.astype(np.float32)
        inputs = StepInputs(batch.tokens, batch.slots.position, batch.targets, weights, plan)
        return place(jax.tree.map(self._split, inputs), self._sharding())

    def leaks(self, batch: Batch) -> LeakReport:
        """What the guard finds in a batch, whether or not leaks are allowed."""
        masks = layer_masks(self.mask, self.config, self.window_policy)
        return leak_report(masks, batch.slots, target_slots(batch), num_heads=self.config.num_heads)

    @property
    def num_shards(self) -> int:
        """Parts into which the mesh splits the rows."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in ROW_AXES)

    @cached_property
    def _structure(self) -> MaskStructure:
        return MaskStructure.of(self.mask, self.config, self.window_policy)

    def check(self, batch: Batch) -> None:
        """Raise `UserError` for rows that do not divide, or tokens outside the vocabulary."""
        shards = self.num_shards
        parts, rows = self.microbatches * shards, len(batch.tokens)
        if rows == 0 or rows % parts:
            raise UserError(
                f"a batch needs a multiple of {parts} rows ({self.microbatches} microbatches on "
                f"{shards} devices along {' x '.join(ROW_AXES)}), got {rows}"
            )
        vocab = self.config.vocab_size
        for name, ids in (("tokens", batch.tokens), ("targets", batch.targets)):
            if ids.min() < 0 or ids.max() >= vocab:
                found = f"{ids.min()}..{ids.max()}"
                raise UserError(f"{name} must be in 0..{vocab - 1}, got {found}")

    def _split(self, array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.reshape(self.microbatches, -1, *array.shape[1:])

    def _sharding(self) -> Sharding:
        if self.mesh is None:
            return whole(None)
        return NamedSharding(self.mesh, PartitionSpec(None, ROW_AXES))
