"""A step that trains low-rank factors: PEFT's gradient, its settings, and the same on any mesh."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh
from jaxablate.latent.lora import Factors, LoRAConfig, init
from jaxablate.masks.parse import parse
from jaxablate.models.layout import weights
from jaxablate.training.adapters import flatten, lora_assemble, unflatten
from jaxablate.training.inputs import Preparation
from jaxablate.training.optimiser import OptimiserConfig, make
from jaxablate.training.schedules import Schedule
from jaxablate.training.state import create, stream
from jaxablate.training.step import StepConfig, make_train_step
from tests.latent.reference import as_lora, parameters, peft_pair
from tests.training.setting import FLAT, model, varied

# PEFT asks transformers under an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SETTINGS = LoRAConfig(rank=4, alpha=6.0)
FEW = replace(SETTINGS, targets=("q", "o", "down"))
FLOAT32 = {"master_dtype": "float32", "compute_dtype": "float32"}
UNCLIPPED = StepConfig(compute_dtype="float32", clip_norm=0.0)
# With so large an eps AdamW is plain gradient descent of rate 1.
DESCENT = OptimiserConfig(kind="adamw", b1=0.0, b2=0.0, eps=1e6)
RATE_1 = Schedule(kind="constant", peak=1e6, total_steps=9)
BATCHES = [varied(seed=seed) for seed in range(3)]


class Run:
    """Factors under training beside the weights of a decoder."""

    def __init__(self, decoder, lora, settings, *, optimiser=DESCENT, schedule=RATE_1, mesh=None):
        config = decoder.config
        self.step = make_train_step(
            config,
            optimiser=make(optimiser),
            schedule=schedule,
            settings=UNCLIPPED,
            mesh=mesh,
            assemble=lora_assemble(config, settings, decoder.layout),
        )
        self.state = create(
            flatten(lora), weights(decoder), self.step.optimiser, seed=0, mesh=mesh, **FLOAT32
        )
        self.prepare = Preparation(mask=parse("prefix_lm"), config=config, mesh=mesh)

    def advance(self, batch):
        self.state, metrics = self.step(self.state, self.prepare(batch))
        return jax.tree.map(np.asarray, metrics)


def decoder_of(layout="loop"):
    lm = model(layout)
    return nnx.merge(lm.graph, lm.params)


@functools.cache
def random_lora(settings=FEW):
    """Both factors random, so that the update is not zero."""
    lora = init(settings, decoder_of().config, key=jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), len(lora.factors))
    factors = {
        path: Factors(pair.lora_a, 0.3 * jax.random.normal(key, pair.lora_b.shape))
        for (path, pair), key in zip(lora.factors.items(), keys, strict=True)
    }
    return replace(lora, factors=factors)


def torch_loss(adapted, batch):
    """Mean cross entropy over responses under an explicit prefix-LM mask; gradients are left."""
    import torch

    rows, width = batch.tokens.shape
    index = np.arange(width)
    length = (batch.slots.segment > 0).sum(axis=1)[:, None, None]
    prompt = (batch.slots.part > 0).sum(axis=1)[:, None, None]
    query, key = index[None, :, None], index[None, None, :]
    sees = (key <= query) | ((query < prompt) & (key < prompt))
    sees = (sees & (key < length)) | (key == query)  # a padded row sees itself: no NaN
    logits = adapted(
        input_ids=torch.tensor(batch.tokens).long(),
        attention_mask=torch.where(torch.tensor(sees), 0.0, torch.finfo(torch.float32).min)[
            :, None
        ],
        position_ids=torch.arange(width)[None].expand(rows, -1),
        use_cache=False,
    ).logits
    counted, targets = torch.tensor(batch.loss_mask), torch.tensor(batch.targets).long()
    loss = torch.nn.functional.cross_entropy(logits[counted], targets[counted])
    adapted.zero_grad()
    loss.backward()
    return loss.item()


SLOW_SCAN = ["loop", pytest.param("scan", marks=pytest.mark.slow)]


@pytest.mark.parametrize("layout", SLOW_SCAN)
def test_one_step_of_plain_descent_takes_pefts_gradient_off_the_factors(layout):
    adapted, decoder, _ = peft_pair("qwen3", layout=layout)
    theirs = parameters(adapted)
    lora = as_lora(theirs)
    before = {path: np.array(factor, np.float64) for path, factor in flatten(lora).items()}
    run, batch = Run(decoder, lora, SETTINGS), varied()
    metrics = run.advance(batch)
    np.testing.assert_allclose(metrics.loss.mean, torch_loss(adapted, batch), rtol=1e-5)
    assert set(run.state.params) == set(before)
    for (path, letter), weight in theirs.items():
        name = f"{path}/lora_{letter.lower()}"
        moved = before[name] - np.asarray(run.state.params[name], np.float64)
        np.testing.assert_allclose(moved, weight.grad.numpy(), rtol=1e-4, atol=2e-6, err_msg=name)
        assert np.abs(moved).max() > 1e-4, name


def test_rank_and_alpha_are_those_of_the_settings():
    def loss(lora, settings):
        run = Run(decoder, lora, settings)
        return float(run.step.loss(run.state, run.prepare(BATCHES[0])).mean)

    decoder, lora = decoder_of(), random_lora()
    doubled = {path: Factors(pair.lora_a, 2 * pair.lora_b) for path, pair in lora.factors.items()}
    twice = loss(lora, replace(FEW, alpha=12.0))
    assert twice == pytest.approx(loss(replace(lora, factors=doubled), FEW), rel=1e-6)
    assert abs(twice - loss(lora, FEW)) > 1e-3
    with pytest.raises(UserError, match=r"must have lora_a \[8, "):
        loss(lora, replace(FEW, rank=8))


def test_targets_and_layers_are_all_that_is_trained():
    settings = LoRAConfig(rank=2, alpha=4.0, targets=("v", "up"), first_layers=1)
    decoder = decoder_of()
    run = Run(decoder, init(settings, decoder.config, key=jax.random.key(0)), settings)
    run.advance(BATCHES[0])
    targets = ("layers/0/attention/v", "layers/0/mlp/up")
    assert set(run.state.params) == {f"{t}/lora_{x}" for t in targets for x in "ab"}
    for path, weight in weights(decoder).items():
        np.testing.assert_array_equal(run.state.frozen[path], weight)
    with pytest.raises(UserError, match="first_layers"):
        lora_assemble(decoder.config, replace(settings, first_layers=99))


@pytest.mark.parametrize("layout", SLOW_SCAN)
def test_dropout_acts_in_steps_alone_and_differs_from_step_to_step(layout):
    still = Schedule(kind="constant", peak=1e-30, total_steps=9)
    decoder, lora = decoder_of(layout), random_lora()
    plain, dropped = (
        Run(decoder, lora, replace(FEW, dropout=share), schedule=still) for share in (0.0, 0.5)
    )
    inputs = plain.prepare(BATCHES[0])
    measured = float(plain.step.loss(plain.state, inputs).mean)
    assert float(dropped.step.loss(dropped.state, inputs).mean) == measured
    first, second = (float(dropped.advance(BATCHES[0]).loss.mean) for _ in range(2))
    assert len({round(value, 4) for value in (measured, first, second)}) == 3


def run_on(mesh):
    run = Run(
        decoder_of(),
        random_lora(),
        replace(FEW, dropout=0.3),
        optimiser=OptimiserConfig(),
        schedule=FLAT,
        mesh=make_mesh(parse_mesh(mesh)) if mesh else None,
    )
    return run, [float(run.advance(batch).loss.mean) for batch in BATCHES]


@pytest.fixture(scope="module")
def alone():
    return run_on("")[1]


@pytest.mark.parametrize("mesh", ["fsdp=2", "data=2,fsdp=2,tensor=2"])
def test_meshes_give_the_losses_of_one_device_and_drop_the_same_inputs(mesh, alone):
    run, losses = run_on(mesh)
    np.testing.assert_allclose(losses, alone, rtol=2e-6)
    assert losses[2] != losses[0]
    assert_sharded_like_their_weights(run.state)


def assert_sharded_like_their_weights(state):
    """Inputs like the weight's inputs, outputs like its outputs, the rank whole; moments alike."""
    moments = {path: [] for path in state.params}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
        moments.get(getattr(keys[-1], "key", None), []).append(leaf)
    for path, factor in state.params.items():
        target, _, name = path.rpartition("/")
        weight = state.frozen[f"{target}/weight"]
        out, size_in = weight.sharding.shard_shape(weight.shape)
        wanted = (FEW.rank, size_in) if name == "lora_a" else (out, FEW.rank)
        assert len(moments[path]) == 2
        for array in (factor, *moments[path]):
            assert array.sharding.shard_shape(array.shape) == wanted, path
    for path in ("attention/q/lora_a", "attention/o/lora_b", "mlp/down/lora_b"):
        factor = state.params[f"layers/1/{path}"]
        assert factor.addressable_shards[0].data.size == factor.size // 2, path


def test_flattened_factors_come_back():
    lora = random_lora()
    arrays = flatten(lora)
    assert set(arrays) == {f"{path}/lora_{x}" for path in lora.factors for x in "ab"}
    back = unflatten(arrays, rank=4, alpha=6.0)
    assert (back.rank, back.alpha, back.dropout) == (lora.rank, lora.alpha, lora.dropout)
    jax.tree.map(np.testing.assert_array_equal, back, lora)


def test_paths_that_are_no_pairs_of_factors_are_named():
    one = jnp.zeros((2, 3))
    with pytest.raises(UserError, match=r"'layers/0/attention/q/weight' is no factor"):
        unflatten({"layers/0/attention/q/weight": one}, rank=2, alpha=1.0)
    with pytest.raises(UserError, match="layers/0/attention/q has only lora_a"):
        unflatten({"layers/0/attention/q/lora_a": one}, rank=2, alpha=1.0)


def test_streams_of_start_and_dropout_are_apart():
    key = jax.random.PRNGKey(0)
    assert stream(key, "lora", 0).tolist() != stream(key, "dropout", 0).tolist()
