"""The order of training data as a pure function of seed and step; resuming is knowing the step.

An epoch is a permutation of its rows, drawn from (seed, epoch) alone. Hosts take disjoint rows of
the same global batch, so the order does not depend on how many there are.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxablate.core.errors import UserError
from jaxablate.core.files import digest
from jaxablate.data.batch import Batch, Example, collate
from jaxablate.data.packing import best_fit


class Pipeline:
    """Batches of `rows` rows a step over all hosts; `pipeline.batch(step)` is this host's part.

    Rows that do not fill the last step of an epoch are left out of it; which ones changes with
    the epoch. With `packed=False` every row is one example.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        width: int,
        rows: int,
        seed: int,
        packed: bool = True,
        pad_id: int = 0,
        host: int = 0,
        num_hosts: int = 1,
    ):
        if rows < 1 or num_hosts < 1 or rows % num_hosts or not 0 <= host < num_hosts:
            raise UserError(
                f"rows of a step must divide evenly among hosts, got {rows} rows, "
                f"host {host} of {num_hosts}"
            )
        if seed < 0:
            raise UserError(f"seed must be >= 0, got {seed}")
        self.examples, self.width, self.rows, self.seed = tuple(examples), width, rows, seed
        self.packed, self.pad_id, self.host, self.num_hosts = packed, pad_id, host, num_hosts
        self._lengths = np.array([len(example.tokens) for example in examples], np.int64)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        self.num_rows = len(self._epoch(0))
        if self.num_rows < rows:
            raise UserError(
                f"a step takes {rows} rows, an epoch has {self.num_rows} "
                f"({len(self.examples)} examples in rows of {width}); wanted fewer rows a step"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps in one epoch."""
        return self.num_rows // self.rows

    @property
    def fill(self) -> float:
        """Share of an epoch's slots that hold real tokens."""
        return float(self._lengths.sum()) / (self.num_rows * self.width)

    def batch(self, step: int) -> Batch:
        """This host's rows of a step, counted from 0."""
        members = self.members(step)
        mine = len(members) // self.num_hosts
        rows = members[self.host * mine : (self.host + 1) * mine]
        examples = [[self.examples[index] for index in row] for row in rows]
        return collate(examples, self.width, pad_id=self.pad_id)

    def members(self, step: int) -> list[list[int]]:
        """Indices of the examples in each row of a step, over all hosts."""
        if step < 0:
            raise UserError(f"step must be >= 0, got {step}")
        epoch, within = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[within * self.rows : (within + 1) * self.rows]

    def state(self, step: int) -> dict[str, Any]:
        """The position before `step`, for a checkpoint: plain JSON."""
        return {"step": step, "order": self.fingerprint}

    def step_of(self, state: dict[str, Any]) -> int:
        """The step of a saved position; raises `UserError` if it is of another data order."""
        if state.get("order") != self.fingerprint:
            raise UserError(
                f"the saved data position belongs to another order of data "
                f"({str(state.get('order'))[:12]}, here {self.fingerprint[:12]}): examples, seed, "
                "rows, width and packing must be those of the run that is resumed"
            )
        return state["step"]

    @cached_property
    def fingerprint(self) -> str:
        """Names the order of data: examples, seed, rows, width and packing, never the hosts."""
        layout = [self.seed, self.rows, self.width, self.packed]
        return digest([examples_digest(self.examples), *layout])

    def prefetch(
        self,
        first: int,
        end: int,
        *,
        then: Callable[[Batch], Any] | None = None,
        threads: int | None = None,
        ahead: int = 4,
    ) -> Any:
        """A `grain` data set of the batches of steps [first, end), made ahead by threads.

        With `then` it holds what that makes of each batch, in the same order; an error of it is
        raised at its step. `threads`: default one a core, at most four. The iterator's
        `get_state()` counts from `first`. Needs grain.
        """
        import grain

        threads = threads or min(4, os.cpu_count() or 1)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        batches = grain.MapDataset.range(first, end).map(self.batch)
        return (batches.map(then) if then else batches).to_iter_dataset(options)

    def _draw_epoch(self, epoch: int) -> list[list[int]]:
        count = len(self.examples)
        order = permutation(self.seed, 2 * epoch, count)
        if not self.packed:
            return [[index] for index in order.tolist()]
        rows = best_fit(self._lengths, self.width, order=order)
        # Packing goes from long to short; steps must not.
        return [rows[row] for row in permutation(self.seed, 2 * epoch + 1, len(rows))]


def in_order(
    examples: Sequence[Example], *, width: int, rows: int, packed: bool = True, pad_id: int = 0
) -> list[Batch]:
    """Every example once, in a fixed order, for evaluation; the last batch ends in empty rows."""
    lengths = [len(example.tokens) for example in examples]
    members = best_fit(lengths, width) if packed else [[i] for i in range(len(examples))]
    members += [[] for _ in range(-len(members) % rows)]
    batches = (members[start : start + rows] for start in range(0, len(members), rows))
    return [
        collate([[examples[i] for i in row] for row in batch], width, pad_id=pad_id)
        for batch in batches
    ]


def permutation(seed: int, stream: int, count: int) -> Int[np.ndarray, " N"]:
    """A permutation of `count` drawn from (seed, stream) alone.

    It ranks raw Philox words, whose sequence is fixed across numpy versions, which
    `Generator.permutation` does not promise.

    >>> permutation(0, 0, 5).tolist() == permutation(0, 0, 5).tolist()
    True
    """
    words = np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(count)
    return np.argsort(np.asarray(words), kind="stable")


def examples_digest(examples: Sequence[Example]) -> str:
    """Names the examples' tokens, prompt lengths and parts, in order."""
    content = hashlib.sha256()
    for example in examples:
        # Parts are marked by their sign; a prompt of one part is named as it always was.
        parts = [-start for start in example.part_starts]
        sizes = np.array([example.prompt_length, len(example.tokens), *parts], "<i4")
        content.update(sizes.tobytes() + example.tokens.astype("<i4").tobytes())
    return content.hexdigest()
