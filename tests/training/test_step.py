"""A step's loss, accumulation, precision, freezing, guard and random streams."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxablate.core.errors import UserError
from jaxablate.core.slots import Role
from jaxablate.latent.lora import Factors, LoRAConfig, attach, init
from jaxablate.masks.leak import LeakError
from jaxablate.masks.parse import parse
from jaxablate.models.layout import build, weights
from jaxablate.training.freeze import split
from jaxablate.training.inputs import Preparation
from jaxablate.training.optimiser import OptimiserConfig, make
from jaxablate.training.schedules import Schedule
from jaxablate.training.state import create, stream
from jaxablate.training.step import StepConfig, make_train_step
from tests.training.setting import FLAT, Run, batch_of, model, varied


def mean_ce(batch):
    """The definition: full float32 logits, mean over supervised tokens."""
    lengths = (batch.slots.segment > 0).sum(axis=1).tolist()
    prompts = (batch.slots.role == Role.PROMPT).sum(axis=1).tolist()
    logits = model().logits(batch.tokens, lengths, "prefix_lm", prompts)
    logprobs = np.asarray(jax.nn.log_softmax(logits))
    of_targets = np.take_along_axis(logprobs, batch.targets[..., None], axis=-1)[..., 0]
    return -of_targets[batch.loss_mask].mean(dtype=np.float64)


def test_loss_is_the_mean_over_supervised_tokens_and_falls():
    run, batch = Run(), varied()
    first = run.advance(batch)
    np.testing.assert_allclose(first.loss.mean, mean_ce(batch), rtol=1e-6)
    assert first.loss.count == batch.loss_mask.sum()
    assert run.losses([batch] * 5)[-1] < first.loss.mean
    assert int(run.state.step) == 6


def test_loss_of_a_batch_equals_what_its_step_reports():
    run, batch = Run(microbatches=4), varied()
    before = run.step.loss(run.state, run.prepare(batch))
    np.testing.assert_allclose(before.mean, run.advance(batch).loss.mean, rtol=1e-6)


@pytest.mark.parametrize("microbatches", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_accumulated_microbatches_weigh_tokens_and_not_microbatches(microbatches):
    batch = varied()
    counts = batch.loss_mask.sum(axis=1).reshape(microbatches, -1).sum(axis=1)
    assert len(set(counts.tolist())) > 1
    whole, parts = Run(), Run(microbatches=microbatches)
    first, second = whole.advance(batch), parts.advance(batch)
    np.testing.assert_allclose(second.loss.mean, first.loss.mean, rtol=1e-6)
    np.testing.assert_allclose(second.grad_norm, first.grad_norm, rtol=1e-5)
    np.testing.assert_allclose(whole.losses([batch] * 3), parts.losses([batch] * 3), rtol=1e-5)


def test_packed_rows_give_the_loss_and_the_gradient_of_unpacked_ones():
    lengths = [(3, 4), (2, 6), (5, 2), (1, 5)]
    random = np.random.default_rng(0)
    tokens = [random.integers(1, 90, p + r).astype(np.int32) for p, r in lengths]
    packed = batch_of([lengths[:2], lengths[2:]], 16)
    apart = batch_of([[pair] for pair in lengths], 16)
    for index, ids in enumerate(tokens):
        row, segment = divmod(index, 2)
        here = packed.slots.segment[row] == segment + 1
        packed.tokens[row, here] = ids
        apart.tokens[index, : len(ids)] = ids
    for batch in (packed, apart):
        following = np.roll(batch.tokens, -1, axis=1)
        batch.targets[...] = np.where(batch.loss_mask, following, 0)
    first, second = Run().advance(packed), Run().advance(apart)
    np.testing.assert_allclose(first.loss.mean, second.loss.mean, rtol=1e-6)
    np.testing.assert_allclose(first.grad_norm, second.grad_norm, rtol=1e-5)


def test_layouts_train_alike():
    batches = [varied(seed=seed) for seed in range(3)]
    np.testing.assert_allclose(Run(layout="scan").losses(batches), Run().losses(batches), rtol=1e-5)


@pytest.mark.parametrize("remat", ["dots", pytest.param("full", marks=pytest.mark.slow)])
def test_remat_changes_no_number(remat):
    settings = StepConfig(compute_dtype="float32", remat=remat)
    batches = [varied(seed=seed) for seed in range(2)]
    np.testing.assert_allclose(Run(settings=settings).losses(batches), Run().losses(batches), 1e-6)


def test_frozen_parts_stay_and_get_no_state():
    frozen = ("embedding/*", "layers/1/*")
    run = Run(frozen=frozen)
    before = jax.tree.map(np.array, (run.state.params, run.state.frozen))
    run.losses([varied()] * 2)
    assert set(run.state.frozen) == {
        p for p in {**before[0], **before[1]} if p[:9] in ("embedding", "layers/1/")
    }
    for path, weight in run.state.frozen.items():
        np.testing.assert_array_equal(weight, before[1][path])
    for path, weight in run.state.params.items():
        assert not np.array_equal(weight, before[0][path]), path
    in_state = sum(x.size for x in jax.tree.leaves(run.state.opt_state) if x.ndim)
    assert in_state == 2 * sum(x.size for x in run.state.params.values())


def test_a_gradient_of_trained_parts_does_not_depend_on_what_else_is_frozen():
    unclipped = StepConfig(compute_dtype="float32", clip_norm=0.0)
    whole, part = Run(settings=unclipped), Run(settings=unclipped, frozen=("embedding/*",))
    for run in (whole, part):
        run.advance(varied())
    for path, weight in part.state.params.items():
        np.testing.assert_allclose(weight, whole.state.params[path], rtol=1e-5, atol=1e-7)


def test_frozen_patterns_that_fit_nothing_or_everything_are_refused():
    paths = {"embedding/weight": 1, "layers/0/mlp/up/weight": 2}
    with pytest.raises(UserError, match=r"'embeding/\*' fits no weight; one is 'embedding/weight'"):
        split(paths, ["embeding/*"])
    with pytest.raises(UserError, match="leave no weight to train"):
        split(paths, ["*"])


def test_the_norm_over_all_trained_weights_is_clipped():
    plain, clipped = (
        Run(
            settings=StepConfig(compute_dtype="float32", clip_norm=limit),
            optimiser=OptimiserConfig(kind="adamw", b1=0.0, b2=0.0, eps=1e6),
            schedule=Schedule(kind="constant", peak=1e6, total_steps=9),
        )
        for limit in (0.0, 0.25)
    )
    # With so large an eps AdamW is plain gradient descent of rate 1.
    moved = []
    for run in (plain, clipped):
        before = {path: np.array(weight) for path, weight in run.state.params.items()}
        metrics = run.advance(varied())
        delta = [run.state.params[path] - weight for path, weight in before.items()]
        moved.append(np.sqrt(sum(np.square(d, dtype=np.float64).sum() for d in delta)))
    assert metrics.grad_norm > 0.25
    np.testing.assert_allclose(moved, [metrics.grad_norm, 0.25], rtol=1e-3)


def test_bfloat16_compute_keeps_float32_masters_and_counts_what_changed():
    settings = StepConfig(compute_dtype="bfloat16")
    run = Run(settings=settings, schedule=Schedule(kind="constant", peak=1e-6, total_steps=9))
    before = {path: np.array(weight) for path, weight in run.state.params.items()}
    metrics = run.advance(varied())
    assert {x.dtype for x in run.state.params.values()} == {np.dtype("float32")}
    visible = moved = 0
    for path, weight in before.items():
        after = np.asarray(run.state.params[path])
        as_computed = jnp.asarray(after).astype("bfloat16"), jnp.asarray(weight).astype("bfloat16")
        visible += int(jnp.sum(as_computed[0] != as_computed[1]))
        moved += int((after != weight).sum())
    assert metrics.changed.sum == visible < moved
    assert metrics.changed.count == sum(x.size for x in before.values())
    np.testing.assert_allclose(metrics.loss.mean, mean_ce(varied()), rtol=2e-2)


STOCHASTIC = StepConfig(master_dtype="bfloat16", rounding="stochastic")
TINY = Schedule(kind="constant", peak=1e-5, total_steps=99)
NORMS = ("*norm/weight",)


def test_small_updates_survive_bfloat16_masters_only_by_stochastic_rounding():
    shares, totals = {}, {}
    for rounding in ("nearest", "stochastic"):
        run = Run(settings=replace(STOCHASTIC, rounding=rounding), schedule=TINY, frozen=NORMS)
        before = {path: np.asarray(w, np.float64) for path, w in run.state.params.items()}
        shares[rounding] = float(run.advance(varied()).changed.mean)
        after = {path: np.asarray(w, np.float64) for path, w in run.state.params.items()}
        totals[rounding] = np.mean(
            np.concatenate([np.abs(after[p] - before[p]).ravel() for p in before])
        )
    assert shares["nearest"] < 0.02 < shares["stochastic"]
    # The first step of AdamW moves every weight by the rate.
    np.testing.assert_allclose(totals["stochastic"], 1e-5, rtol=0.25)


def test_a_repeated_run_is_the_same_bit_for_bit():
    settings = {"settings": STOCHASTIC, "schedule": TINY, "frozen": NORMS}
    batches = [varied(seed=seed) for seed in range(3)]
    first, second = Run(**settings), Run(**settings)
    assert first.losses(batches) == second.losses(batches)
    for path, weight in first.state.params.items():
        assert np.array_equal(weight, second.state.params[path])
    other = Run(**settings, seed=1)
    assert first.losses(batches) != other.losses(batches)


def test_a_mask_that_leaks_is_refused_before_anything_runs():
    run, batch = Run(mask="full_bidirectional"), varied()
    with pytest.raises(LeakError, match="can see its own target"):
        run.advance(batch)
    forced = Run(mask="full_bidirectional", allow_leaky=True)
    assert forced.prepare.leaks(batch).leaks
    assert np.isfinite(forced.advance(batch).loss.mean)


def test_a_batch_that_cannot_be_used_is_refused():
    config, batch = model().config, varied()
    prepare = Preparation(mask=parse("causal"), config=config, microbatches=3)
    with pytest.raises(UserError, match=r"multiple of 3 rows .* got 8"):
        prepare(batch)
    batch.tokens[0, 0] = config.vocab_size
    with pytest.raises(UserError, match=r"tokens must be in 0..96, got"):
        Preparation(mask=parse("causal"), config=config)(batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compute_dtype": "float16"}, "compute_dtype must be float32 or bfloat16, got float16"),
        ({"remat": "dot"}, "unknown remat 'dot'; known: dots, full, none"),
        ({"rounding": "stochastic"}, "stochastic rounding is for master_dtype bfloat16"),
        ({"rounding": "up"}, "unknown rounding 'up'"),
        ({"clip_norm": -1.0}, "clip_norm must be >= 0, got -1.0"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        StepConfig(**settings)


def test_a_batch_without_supervised_tokens_moves_nothing():
    run, batch = Run(), varied()
    before = {path: np.array(weight) for path, weight in run.state.params.items()}
    metrics = run.advance(batch._replace(loss_mask=np.zeros_like(batch.loss_mask)))
    assert metrics.loss.mean == metrics.grad_norm == metrics.changed.sum == 0
    for path, weight in before.items():
        np.testing.assert_array_equal(run.state.params[path], weight)


def test_streams_differ_by_name_and_step_and_repeat():
    key = jax.random.PRNGKey(3)
    keys = {(n, s): tuple(stream(key, n, s).tolist()) for n in ("a", "b") for s in range(3)}
    assert len(set(keys.values())) == 6
    assert keys["a", 2] == tuple(stream(jax.random.PRNGKey(3), "a", jnp.int32(2)).tolist())


def test_the_rate_follows_the_absolute_step():
    rates = Schedule(kind="linear", peak=1e-3, total_steps=4, warmup_steps=2)
    run = Run(schedule=rates)
    got = [float(run.advance(varied()).learning_rate) for _ in range(4)]
    np.testing.assert_allclose(got, [0, 5e-4, 1e-3, 5e-4], rtol=1e-6)
    assert float(FLAT(7)) == pytest.approx(1e-3)


def test_what_is_assembled_may_train_low_rank_factors_beside_frozen_weights():
    lm = model()
    base = weights(nnx.merge(lm.graph, lm.params))
    lora = init(LoRAConfig(rank=2, alpha=4.0, targets=("q",)), lm.config, key=jax.random.key(0))
    factors = {
        f"{path}/{name}": getattr(pair, name)
        for path, pair in lora.factors.items()
        for name in pair._fields
    }

    def assemble(trained, frozen, key):
        pairs = {p: Factors(trained[f"{p}/lora_a"], trained[f"{p}/lora_b"]) for p in lora.factors}
        attached = replace(lora, factors=pairs)
        return attach(build(lm.config, frozen), attached, dropout_key=key)

    settings = StepConfig(compute_dtype="float32")
    optimiser = make(OptimiserConfig())
    step = make_train_step(
        lm.config, optimiser=optimiser, schedule=FLAT, settings=settings, assemble=assemble
    )
    dtypes = {"master_dtype": "float32", "compute_dtype": "float32"}
    state = create(factors, base, optimiser, seed=0, **dtypes)
    prepare = Preparation(mask=parse("prefix_lm"), config=lm.config)
    losses = []
    for _ in range(4):
        state, metrics = step(state, prepare(varied()))
        losses.append(float(metrics.loss.mean))
    np.testing.assert_allclose(losses[0], mean_ce(varied()), rtol=1e-6)
    assert losses[3] < losses[0]
    assert set(state.params) == set(factors)
    for path, weight in base.items():
        np.testing.assert_array_equal(state.frozen[path], weight)
