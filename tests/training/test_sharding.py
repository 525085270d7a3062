"""The same training on 1, 2, 4 and 8 devices, however the mesh is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh, weight_sharding
from jaxablate.models.family import logical_axes
from jaxablate.training.optimiser import OptimiserConfig, make
from jaxablate.training.state import create
from tests.training.setting import Run, varied

BATCHES = [varied(seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def alone():
    return Run().losses(BATCHES)


@pytest.mark.parametrize("mesh", ["data=2", "fsdp=4", "tensor=2", "data=2,fsdp=2,tensor=2"])
def test_meshes_give_the_losses_of_one_device(mesh, alone):
    run = Run(mesh=make_mesh(parse_mesh(mesh)))
    np.testing.assert_allclose(run.losses(BATCHES), alone, rtol=2e-6)


def test_accumulation_and_scanned_layers_on_a_mesh(alone):
    run = Run(mesh=make_mesh(parse_mesh("fsdp=2,tensor=2")), microbatches=2, layout="scan")
    np.testing.assert_allclose(run.losses(BATCHES), alone, rtol=2e-6)


def test_weights_and_their_optimiser_state_are_split_alike_before_and_after_a_step():
    mesh = make_mesh(parse_mesh("fsdp=2,tensor=2"))
    run = Run(mesh=mesh, optimiser=OptimiserConfig(kind="adamw"))
    for _ in range(2):
        split = 0
        for path, weight in run.state.params.items():
            expected = weight_sharding(mesh, logical_axes(path), weight.shape)
            assert weight.sharding.is_equivalent_to(expected, weight.ndim), path
        for keys, leaf in jax.tree_util.tree_leaves_with_path(run.state.opt_state):
            path = getattr(keys[-1], "key", None)
            if path in run.state.params:
                assert leaf.sharding.is_equivalent_to(run.state.params[path].sharding, leaf.ndim)
                split += not leaf.sharding.is_fully_replicated
        assert split == 2 * sum(
            not weight.sharding.is_fully_replicated for weight in run.state.params.values()
        )
        run.advance(BATCHES[0])


@pytest.mark.parametrize("mesh", ["", "fsdp=2", "data=2"])
def test_a_state_never_shares_a_buffer_with_the_weights_it_was_made_of(mesh):
    where = make_mesh(parse_mesh(mesh)) if mesh else None
    given = {"layers/0/mlp/up/weight": jnp.ones((8, 4)), "final_norm/weight": jnp.ones(4)}
    dtypes = {"master_dtype": "float32", "compute_dtype": "float32"}
    state = create(given, {}, make(OptimiserConfig()), seed=0, mesh=where, **dtypes)
    jax.jit(lambda params: jax.tree.map(jnp.negative, params), donate_argnums=0)(state.params)
    for path, weight in given.items():
        assert state.params[path].is_deleted(), path
        np.testing.assert_array_equal(weight, np.ones(weight.shape))


def test_rows_that_do_not_divide_over_the_devices_are_refused():
    run = Run(mesh=make_mesh(parse_mesh("data=2,fsdp=2")))
    with pytest.raises(UserError, match=r"multiple of 4 rows .* got 6"):
        run.advance(varied(rows=6))
