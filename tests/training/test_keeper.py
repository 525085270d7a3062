"""Which checkpoints stay, and a drill that refuses what reads back differently."""

import jax.numpy as jnp
import pytest

from jaxablate.checkpoints.steps import SaveConfig, StepStore
from jaxablate.core.errors import UserError
from jaxablate.training.keeper import Keeper
from jaxablate.training.optimiser import OptimiserConfig, make
from jaxablate.training.progress import Progress
from jaxablate.training.snapshot import digest, to_arrays
from jaxablate.training.state import create

FACTS = {"weights": "abc", "model": {"windows": (1, 2)}}


def state_of(value=1.0):
    weights = {"layers/0/mlp/up/weight": jnp.full((4, 4), value), "final_norm/weight": jnp.ones(4)}
    return create(
        weights, {}, make(OptimiserConfig()), seed=0, master_dtype="float32",
        compute_dtype="float32",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "best", "left"),
    [
        (SaveConfig(), None, [7]),
        (SaveConfig(), 3, [3, 7]),
        (SaveConfig(keep_last=3), None, [5, 6, 7]),
        (SaveConfig(keep_last=2, keep_every=3), 1, [0, 1, 3, 6, 7]),
    ],
)
def test_the_last_the_best_and_the_periodic_stay(tmp_path, config, best, left):
    keeper, state = Keeper(StepStore(tmp_path), config, FACTS), state_of()
    for step in range(8):
        keeper.save(state, Progress(step=step), best=best if best is None or best <= step else None)
    keeper.store.wait()
    assert keeper.store.steps() == left


def test_a_drill_gives_back_the_same_bits_on_new_arrays(tmp_path):
    keeper, state = Keeper(StepStore(tmp_path), SaveConfig(), FACTS), state_of(0.1)
    before = digest(to_arrays(state))
    found = keeper.drill(state)
    assert digest(to_arrays(found)) == before
    assert all(array.is_deleted() for array in state.params.values())
    assert keeper.store.steps() == [0]


def test_a_drill_refuses_what_reads_back_differently(tmp_path):
    class Broken(StepStore):
        def restore(self, saved, wanted):
            arrays = super().restore(saved, wanted)
            name = "params/final_norm/weight"
            return {**arrays, name: arrays[name].at[2].add(1e-7)}

    keeper = Keeper(Broken(tmp_path), SaveConfig(), FACTS)
    with pytest.raises(UserError, match="reads back differently"):
        keeper.drill(state_of())


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    keeper = Keeper(StepStore(tmp_path), SaveConfig(), FACTS)
    keeper.save(state_of(), Progress(step=4, tokens=7), best=None)
    keeper.store.wait()
    _, progress = Keeper(StepStore(tmp_path), SaveConfig(), FACTS).restore(state_of(2.0))
    assert progress == Progress(step=4, tokens=7)
    other = Keeper(StepStore(tmp_path), SaveConfig(), {**FACTS, "weights": "xyz"})
    with pytest.raises(UserError, match="saved by another run: weights: 'abc' -> 'xyz'"):
        other.restore(state_of())
