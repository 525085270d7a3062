"""What a mask may know of a token: its slot's position, segment, role, part and branch."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np


class Role(IntEnum):
    """What a slot is for. PAD slots see nothing and are seen by nothing."""

    PAD = 0
    PROMPT = 1
    RESPONSE = 2
    LATENT = 3
    GIST = 4


class Slots(NamedTuple):
    """Facts about token slots, int32 arrays of shape [B, T], numpy or jax.

    `position` is the rotary index inside the segment. `segment` says which packed example a slot
    belongs to; 0 is padding. `part` numbers the turns or documents of a prompt; 0 is none.
    `branch` is 0 for the trunk and b > 0 for the b-th of several continuations that share the
    trunk's prompt; slots of different branches never see each other.
    """

    position: Any
    segment: Any
    role: Any
    part: Any
    branch: Any

    def map(self, function: Any) -> "Slots":
        """The slots with `function` applied to each of the five arrays."""
        return Slots(*(function(field) for field in self))


def rows(
    lengths: Sequence[int] | np.ndarray,
    width: int,
    prompt_lengths: Sequence[int] | np.ndarray | None = None,
    part_starts: Sequence[Sequence[int]] | None = None,
) -> Slots:
    """Right-padded rows of one example each.

    The first `prompt_lengths[b]` slots of row b are PROMPT, the other real ones RESPONSE; without
    `prompt_lengths` every real slot is PROMPT, as in a prefill. The prompt is part 1 up to the
    first of `part_starts[b]`, where part 2 begins, and so on.

    >>> rows([3], 4, [2]).role.tolist()
    [[1, 1, 2, 0]]
    >>> rows([4], 5, [3], [[2]]).part.tolist()
    [[1, 1, 2, 0, 0]]
    """
    count = np.asarray(lengths, np.int32)[:, None]
    prompt = count if prompt_lengths is None else np.asarray(prompt_lengths, np.int32)[:, None]
    index = np.broadcast_to(np.arange(width, dtype=np.int32), (len(count), width))
    real = index < count
    role = np.where(index < prompt, Role.PROMPT, Role.RESPONSE)
    part = np.stack([part_numbers(width, starts) for starts in part_starts or [()] * len(count)])
    return Slots(
        position=np.where(real, index, 0).astype(np.int32),
        segment=real.astype(np.int32),
        role=np.where(real, role, Role.PAD).astype(np.int32),
        part=np.where(real & (index < prompt), part, 0).astype(np.int32),
        branch=np.zeros_like(index),
    )


def part_numbers(length: int, part_starts: Sequence[int] = ()) -> np.ndarray:
    """The part of each of `length` prompt slots, int32, when later parts begin at `part_starts`.

    >>> part_numbers(5, (2, 4)).tolist()
    [1, 1, 2, 2, 3]
    """
    index = np.arange(length)
    return (np.searchsorted(np.asarray(part_starts, np.int64), index, "right") + 1).astype(np.int32)
