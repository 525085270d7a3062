"""One optimiser step as one compiled program: loss, exact mean gradient, clipping, update.

    step = make_train_step(config, optimiser=make(OptimiserConfig()), schedule=schedule)
    state = create(...)
    prepare = Preparation(mask=parse("prefix_lm"), config=config)
    state, metrics = step(state, prepare(batch))

The state that goes in is written over; use the one that comes back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError, unknown
from jaxablate.engine.plan import Attend, without_cache
from jaxablate.losses.term import Term
from jaxablate.losses.token_ce import LOGIT_BYTES, token_ce
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import REMAT, Decoder
from jaxablate.models.layers import logits
from jaxablate.models.layout import build
from jaxablate.training.inputs import ROW_AXES, StepInputs
from jaxablate.training.state import TrainState, Weights, shardings_like, stream, weight_placement

# (weights that are trained, weights that are not, key for dropout or None) -> what runs.
Assemble = Callable[[Weights, Weights, Any], Decoder]


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """How a step computes.

    Attributes:
        compute_dtype: of weights and activations in the forward and backward pass.
        master_dtype: in which weights are kept and updated; "bfloat16" halves their memory.
        rounding: of bfloat16 master weights: to the nearest, or "stochastic" (right on average,
            so that updates smaller than half a unit in the last place are not lost).
        clip_norm: largest norm of the gradient of all trained weights together; 0 never clips.
        remat: what the backward pass keeps of each block ("none" recomputes nothing).
        logit_bytes: the most that float32 logits take at a time.
    """

    compute_dtype: str = "bfloat16"
    master_dtype: str = "float32"
    rounding: str = "nearest"
    clip_norm: float = 1.0
    remat: str = "none"
    logit_bytes: int = LOGIT_BYTES

    def __post_init__(self):
        for name in ("compute_dtype", "master_dtype"):
            # float16 would need its losses scaled.
            if parse_dtype(getattr(self, name)) not in ("float32", "bfloat16"):
                raise UserError(f"{name} must be float32 or bfloat16, got {getattr(self, name)}")
        if self.remat not in REMAT:
            raise unknown("remat", self.remat, REMAT)
        if self.rounding not in ("nearest", "stochastic"):
            raise unknown("rounding", self.rounding, ("nearest", "stochastic"))
        if self.rounding == "stochastic" and parse_dtype(self.master_dtype) != "bfloat16":
            raise UserError("stochastic rounding is for master_dtype bfloat16, got float32")
        if not self.clip_norm >= 0:
            raise UserError(f"clip_norm must be >= 0, got {self.clip_norm}")


class StepMetrics(NamedTuple):
    """What a step measured, on the device until somebody reads it.

    `loss` is over supervised tokens, `changed` over trained weights as the computation sees them
    (in its type): the share of them that are not what they were before this step.
    """

    loss: Term
    changed: Term
    grad_norm: Float[Array, ""]  # before clipping
    learning_rate: Float[Array, ""]


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """Made by `make_train_step`; compiled once for every kind of mask and shape of batch."""

    assemble: Assemble
    optimiser: optax.GradientTransformation
    schedule: Callable[[Any], Any]
    config: StepConfig
    mesh: Mesh | None

    def __call__(self, state: TrainState, inputs: StepInputs) -> tuple[TrainState, StepMetrics]:
        """The state after one update, and what was measured on the way."""
        # Frozen weights come back as they are: they are neither copied nor given away.
        changing = state._replace(frozen={})
        after, metrics = self._update(changing, state.frozen, inputs)
        return after._replace(frozen=state.frozen), metrics

    def loss(self, state: TrainState, inputs: StepInputs) -> Term:
        """The loss of a batch without dropout; the state stays as it is."""
        return self._loss(state.params, state.frozen, inputs)

    def decoder(self, state: TrainState) -> Decoder:
        """What runs, in the type of the computation, without dropout."""
        weights = _cast(state.params, self.config.compute_dtype)
        return self.assemble(weights, state.frozen, None)

    @cached_property
    def _update(self) -> Callable:
        return jax.jit(self._run, donate_argnums=0)

    @cached_property
    def _loss(self) -> Callable:
        def run(params: Weights, frozen: Weights, inputs: StepInputs) -> Term:
            weights = _cast(params, self.config.compute_dtype)
            one = partial(self._term, weights, frozen, key=None)
            return jax.tree.map(jnp.sum, jax.lax.map(one, inputs))

        return jax.jit(run)

    def _run(
        self, state: TrainState, frozen: Weights, inputs: StepInputs
    ) -> tuple[TrainState, StepMetrics]:
        weights = _cast(state.params, self.config.compute_dtype)
        loss, gradient = self._gradient(weights, frozen, inputs, state)
        norm = optax.tree.norm(gradient)
        rate = jnp.asarray(self.schedule(state.step), jnp.float32)
        direction, opt_state = self.optimiser.update(
            _clip(gradient, norm, self.config.clip_norm), state.opt_state, state.params
        )
        params = self._moved(state, direction, rate)
        changed = _changed(weights, _cast(params, self.config.compute_dtype))
        after = TrainState(state.step + 1, params, {}, opt_state, state.key)
        return self._placed(after), StepMetrics(loss, changed, norm, rate)

    def _gradient(
        self, weights: Weights, frozen: Weights, inputs: StepInputs, state: TrainState
    ) -> tuple[Term, Weights]:
        """The loss and the float32 gradient of its mean over all tokens of all microbatches."""

        def total(weights: Weights, part: StepInputs, key: Array) -> tuple[Array, Array]:
            term = self._term(weights, frozen, part, key=key)
            return term.sum, term.count

        of_part = jax.value_and_grad(total, has_aux=True)
        key = stream(state.key, "dropout", state.step)
        num_parts = inputs.tokens.shape[0]
        if num_parts == 1:
            first = jax.tree.map(lambda x: x[0], inputs)
            (loss, count), gradient = of_part(weights, first, key)
            return Term(loss, count), _scaled(gradient, count)

        def add(carry: tuple, each: tuple) -> tuple[tuple, None]:
            index, part = each
            (loss, count), gradient = of_part(weights, part, jax.random.fold_in(key, index))
            term, sums = carry
            sums = jax.tree.map(lambda whole, new: whole + new.astype(jnp.float32), sums, gradient)
            return (term + Term(loss, count), sums), None

        zeros = jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.float32), weights)
        start = (Term(jnp.float32(0), jnp.float32(0)), zeros)
        (term, sums), _ = jax.lax.scan(add, start, (jnp.arange(num_parts), inputs))
        return term, _scaled(sums, term.count)

    def _term(self, weights: Weights, frozen: Weights, inputs: StepInputs, *, key: Any) -> Term:
        """Cross entropy of one microbatch [B, T]."""
        decoder = self.assemble(weights, frozen, key)
        hidden_BTD = decoder.transform(
            self._over_rows(decoder.embed(inputs.tokens)),
            positions_BT=inputs.positions,
            attend=self._attend(inputs),
            remat=self.config.remat,
        ).hidden
        hidden_BTD = self._over_rows(hidden_BTD)
        head = decoder.embedding if decoder.head is None else decoder.head
        return token_ce(
            hidden_BTD.reshape(-1, hidden_BTD.shape[-1]),
            inputs.targets.reshape(-1),
            inputs.weights.reshape(-1),
            jax.tree_util.Partial(_unembed, head.weight[...]),
            logit_bytes=self.config.logit_bytes * (1 if self.mesh is None else self.mesh.size),
        )

    def _attend(self, inputs: StepInputs) -> Attend:
        attend = without_cache(inputs.plan)
        over = partial(self._over_rows, heads=True)

        def placed(layer: Any, q: Array, k: Array, v: Array, cache: Any) -> tuple[Array, Any]:
            out, cache = attend(layer, over(q), over(k), over(v), cache)
            return over(out), cache

        return placed

    def _over_rows(self, x: Array, *, heads: bool = False) -> Array:
        """Says that activations are split by rows (and heads), so that weights come to them."""
        if self.mesh is None:
            return x
        splits = heads and x.shape[2] % self.mesh.shape["tensor"] == 0
        spec = PartitionSpec(ROW_AXES, None, "tensor" if splits else None)
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

    def _moved(self, state: TrainState, direction: Any, rate: Array) -> Weights:
        keys = stream(state.key, "rounding", state.step)
        params = {}
        for index, (path, weight) in enumerate(sorted(state.params.items())):
            moved = weight.astype(jnp.float32) - rate * direction[path].astype(jnp.float32)
            if self.config.rounding == "stochastic":
                params[path] = stochastic_bfloat16(moved, jax.random.fold_in(keys, index))
            else:
                params[path] = moved.astype(weight.dtype)
        return params

    def _placed(self, state: TrainState) -> TrainState:
        if self.mesh is None:
            return state
        place, put = weight_placement(self.mesh), jax.lax.with_sharding_constraint
        params = {path: put(w, place(path, w.shape)) for path, w in state.params.items()}
        like = shardings_like(state.opt_state, params, self.mesh)
        return state._replace(params=params, opt_state=put(state.opt_state, like))


def make_train_step(
    config: DecoderConfig,
    *,
    optimiser: optax.GradientTransformation,
    schedule: Callable[[Any], Any],
    settings: StepConfig | None = None,
    mesh: Mesh | None = None,
    layout: str = "loop",
    assemble: Assemble | None = None,
) -> TrainStep:
    """A step for the weights of a decoder of this config, or for what `assemble` puts together.

    Args:
        config: the decoder's.
        optimiser: see `training.optimiser.make`; its updates are multiplied by the rate.
        schedule: the rate of every step, see `training.schedules`.
        settings: precision, clipping, remat.
        mesh: devices; the state must have been created for the same.
        layout: of the weights' paths.
        assemble: makes what runs from trained weights, frozen weights and a dropout key; by
            default both together are the weights of a decoder.
    """

    def whole_decoder(weights: Weights, frozen: Weights, key: Any) -> Decoder:
        del key
        return build(config, {**weights, **frozen}, layout=layout)

    return TrainStep(
        assemble=assemble or whole_decoder,
        optimiser=optimiser,
        schedule=schedule,
        config=settings or StepConfig(),
        mesh=mesh,
    )


def stochastic_bfloat16(x: Float[Array, "*axes"], key: Array) -> Array:
    """Rounds float32 up or down, each as likely as x is near: exact on average.

    >>> halfway = jnp.full(1000, 1.0 + 2.0**-8)
    >>> rounded = stochastic_bfloat16(halfway, jax.random.PRNGKey(0)).astype(jnp.float32)
    >>> sorted(set(rounded.tolist())), bool(abs(rounded.mean() - halfway[0]) < 3e-4)
    ([1.0, 1.0078125], True)
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    cut = (bits + noise) & jnp.uint32(0xFFFF0000)
    rounded = jax.lax.bitcast_convert_type(cut, jnp.float32)
    # The addition would turn infinity and NaN into other numbers.
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def _unembed(weight_VD: Array, hidden: Array) -> Array:
    return logits(hidden, weight_VD)


def _cast(weights: Weights, dtype: str) -> Weights:
    return {path: weight.astype(parse_dtype(dtype)) for path, weight in weights.items()}


def _scaled(gradient: Weights, count: Array) -> Weights:
    """Float32 sums divided by a count; zeros where nothing was counted."""
    divisor = jnp.maximum(count, 1)
    return jax.tree.map(lambda g: g.astype(jnp.float32) / divisor, gradient)


def _clip(gradient: Weights, norm: Array, limit: float) -> Weights:
    if limit == 0:
        return gradient
    share = jnp.minimum(1.0, limit / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny))
    return jax.tree.map(lambda g: g * share, gradient)


def _changed(before: Weights, after: Weights) -> Term:
    # A weight has fewer elements than int32 counts; all of them together may not.
    counts = [jnp.sum(before[p] != after[p], dtype=jnp.int32) for p in before]
    total = sum(weight.size for weight in before.values())
    return Term(sum(count.astype(jnp.float32) for count in counts), jnp.float32(total))
