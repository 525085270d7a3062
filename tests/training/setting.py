"""A tiny decoder, batches with prompts of several lengths, and steps over them."""

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxablate.data.batch import Batch, Example, collate
from jaxablate.language_model import LanguageModel
from jaxablate.masks.parse import parse
from jaxablate.models.layout import weights
from jaxablate.training.freeze import split
from jaxablate.training.inputs import Preparation
from jaxablate.training.optimiser import OptimiserConfig, make
from jaxablate.training.schedules import Schedule
from jaxablate.training.state import TrainState, create
from jaxablate.training.step import StepConfig, TrainStep, make_train_step
from tests.engine.models import VOCAB, random_model

ADAMW, FLOAT32 = OptimiserConfig(), StepConfig(compute_dtype="float32")
FLAT = Schedule(kind="constant", peak=1e-3, total_steps=100)


def model(layout: str = "loop") -> LanguageModel:
    """Two layers."""
    return random_model(layout=layout, windows=(None, None))


def batch_of(lengths: list[list[tuple[int, int]]], width: int, seed: int = 0) -> Batch:
    """Random tokens; row b packs examples of (prompt, response) lengths."""
    random = np.random.default_rng(seed)
    rows = [
        [Example(f"{i}", random.integers(1, VOCAB, p + r).astype(np.int32), p) for p, r in row]
        for i, row in enumerate(lengths)
    ]
    return collate(rows, width)


def varied(rows: int = 8, width: int = 16, seed: int = 0) -> Batch:
    """One example a row, with very different numbers of supervised tokens."""
    random = np.random.default_rng(seed)
    lengths = [[(int(p), int(random.integers(1, width - p)))] for p in random.integers(1, 8, rows)]
    return batch_of(lengths, width, seed)


@functools.cache
def step_of(
    optimiser: OptimiserConfig, settings: StepConfig, schedule: Any, mesh: Any, layout: str
) -> TrainStep:
    """One compiled program for all runs that differ in nothing else."""
    return make_train_step(
        model(layout).config,
        optimiser=make(optimiser),
        schedule=schedule,
        settings=settings,
        mesh=mesh,
        layout=layout,
    )


class Run:
    """A model under training: `advance(batch)` gives the metrics of one step."""

    def __init__(
        self,
        *,
        optimiser: OptimiserConfig = ADAMW,
        settings: StepConfig = FLOAT32,
        schedule: Any = FLAT,
        frozen: tuple[str, ...] = (),
        mesh: Any = None,
        layout: str = "loop",
        mask: str = "prefix_lm",
        seed: int = 0,
        **preparation: Any,
    ):
        lm = model(layout)
        self.step = step_of(optimiser, settings, schedule, mesh, layout)
        trained, still = split(weights(nnx.merge(lm.graph, lm.params)), frozen)
        self.state: TrainState = create(
            trained,
            still,
            self.step.optimiser,
            seed=seed,
            master_dtype=settings.master_dtype,
            compute_dtype=settings.compute_dtype,
            mesh=mesh,
        )
        self.prepare = Preparation(mask=parse(mask), config=lm.config, mesh=mesh, **preparation)

    def advance(self, batch: Batch) -> Any:
        self.state, metrics = self.step(self.state, self.prepare(batch))
        return jax.tree.map(np.asarray, metrics)

    def losses(self, batches: list[Batch]) -> list[float]:
        return [float(self.advance(batch).loss.mean) for batch in batches]
