"""Directions of each optimiser against its definition or another implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.training.optimiser import OptimiserConfig, make

MATRIX, NORM = "layers/0/mlp/up/weight", "layers/0/mlp_norm/weight"
EMBEDDING = "embedding/weight"


def weights(seed=0, out=160, size_in=140):
    random = np.random.default_rng(seed)
    shapes = {EMBEDDING: (130, size_in), MATRIX: (out, size_in), NORM: (size_in,)}
    return {p: random.standard_normal(s).astype(np.float32) for p, s in shapes.items()}


def follow(config, steps, rate=0.01):
    """Weights after some steps over given gradients."""
    optimiser, now = make(config), jax.tree.map(jnp.asarray, weights())
    state = optimiser.init(now)
    for step in range(steps):
        direction, state = optimiser.update(weights(seed=step + 1), state, now)
        now = jax.tree.map(lambda w, d: w - rate * d, now, direction)
    return now


def follow_torch(make_optimiser, steps, groups=lambda tensors: list(tensors.values())):
    torch = pytest.importorskip("torch")
    tensors = {p: torch.nn.Parameter(torch.tensor(w)) for p, w in weights().items()}
    optimiser = make_optimiser(groups(tensors))
    for step in range(steps):
        for path, gradient in weights(seed=step + 1).items():
            tensors[path].grad = torch.tensor(gradient)
        optimiser.step()
    return {path: tensor.detach().numpy() for path, tensor in tensors.items()}


def assert_same(got, wanted, rtol=1e-5):
    for path, weight in wanted.items():
        np.testing.assert_allclose(got[path], weight, rtol=rtol, atol=1e-6, err_msg=path)


def test_adamw_equals_torch_with_decay_on_matrices_only():
    torch = pytest.importorskip("torch")

    def groups(tensors):
        matrices = [tensor for path, tensor in tensors.items() if path != NORM]
        return [
            {"params": matrices, "weight_decay": 0.1},
            {"params": [tensors[NORM]], "weight_decay": 0.0},
        ]

    wanted = follow_torch(
        lambda params: torch.optim.AdamW(params, lr=0.01, betas=(0.9, 0.95)), 4, groups
    )
    assert_same(follow(OptimiserConfig(b2=0.95, weight_decay=0.1), 4), wanted)


def test_adafactor_equals_transformers_with_an_outer_rate():
    adafactor = pytest.importorskip("transformers").optimization.Adafactor
    wanted = follow_torch(
        lambda params: adafactor(params, lr=0.01, relative_step=False, scale_parameter=False), 4
    )
    assert_same(follow(OptimiserConfig(kind="adafactor"), 4), wanted)


def test_adafactor_keeps_rows_and_columns_instead_of_matrices():
    state = make(OptimiserConfig(kind="adafactor")).init(weights())
    assert max(x.size for x in jax.tree.leaves(state)) == 160


def test_lion_is_the_sign_of_blended_gradients():
    config = OptimiserConfig(kind="lion", b1=0.9, b2=0.99, weight_decay=0.5)
    now, momentum = weights(), jax.tree.map(np.zeros_like, weights())
    for step in range(3):
        for path, gradient in weights(seed=step + 1).items():
            decay = 0.0 if path == NORM else 0.5
            direction = np.sign(0.9 * momentum[path] + 0.1 * gradient) + decay * now[path]
            now[path] = now[path] - 0.01 * direction
            momentum[path] = 0.99 * momentum[path] + 0.01 * gradient
    assert_same(follow(config, 3), now)


def test_muon_makes_matrices_orthogonal_and_leaves_the_rest_to_adam():
    gradient, config = weights(seed=1), OptimiserConfig(kind="muon", b1=0.95)
    muon, adam = make(config), make(OptimiserConfig(kind="adamw", b1=0.95))
    got, state = muon.update(gradient, muon.init(gradient), gradient)
    of_adam, _ = adam.update(gradient, adam.init(gradient), gradient)
    for path in (NORM, EMBEDDING):
        np.testing.assert_array_equal(got[path], of_adam[path])
    singular = np.linalg.svd(got[MATRIX] / (0.2 * np.sqrt(160)), compute_uv=False)
    assert 0.6 < singular.min() < singular.max() < 1.3
    # One moment for a matrix, two for everything else.
    held = sum(x.size for x in jax.tree.leaves(state) if x.size > 16)
    assert held == gradient[MATRIX].size + 2 * (gradient[NORM].size + gradient[EMBEDDING].size)


def test_muon_treats_stacked_layers_one_by_one():
    apart = [weights(seed=seed)[MATRIX] for seed in (1, 2)]
    muon = make(OptimiserConfig(kind="muon"))
    stacked = {"layers/mlp/up/weight": np.stack(apart)}
    together, _ = muon.update(stacked, muon.init(stacked), stacked)
    for layer, gradient in enumerate(apart):
        one = {MATRIX: gradient}
        alone, _ = muon.update(one, muon.init(one), one)
        np.testing.assert_allclose(
            together["layers/mlp/up/weight"][layer], alone[MATRIX], rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("kind", ["adamw", "lion", "muon"])
def test_momentum_can_be_kept_in_bfloat16(kind):
    state = make(OptimiserConfig(kind=kind, momentum_dtype="bf16")).init(weights())
    kept = [x for x in jax.tree.leaves(state) if x.dtype == jnp.bfloat16]
    assert sum(x.size for x in kept) == sum(w.size for w in weights().values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "adam"}, "unknown optimiser 'adam'; .* did you mean 'adamw'"),
        ({"b1": 1.0}, r"b1 must be in \[0, 1\), got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0, got -1.0"),
        ({"eps": 0.0}, "eps must be > 0, got 0.0"),
        ({"momentum_dtype": "int8"}, "int8"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        OptimiserConfig(**settings)
