"""A config made ready to train: model, data, step, all checked before anything is written."""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from jaxablate.core import processes
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh
from jaxablate.data.pipeline import Pipeline
from jaxablate.data.sft_config import SftData
from jaxablate.language_model import LanguageModel, load
from jaxablate.latent import lora
from jaxablate.masks.leak import LeakError
from jaxablate.models.config import DecoderConfig
from jaxablate.models.layout import weights
from jaxablate.training import freeze
from jaxablate.training.adapters import flatten, lora_assemble
from jaxablate.training.config import FinetuneConfig
from jaxablate.training.held_out import HeldOut
from jaxablate.training.inputs import Preparation
from jaxablate.training.optimiser import make
from jaxablate.training.state import TrainState, create, stream
from jaxablate.training.step import TrainStep, make_train_step


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything a run needs but its folder.

    Attributes:
        state: at step 0; the loop takes it over.
        source: where the base weights come from.
        tokenizer: digest of the base's tokenizer.
        parameters: numbers of trained and frozen weights.
        leak: what the guard says of the training mask on the first rows, in one sentence.
        leaky: the training mask lets a token see its own target.
    """

    config: FinetuneConfig
    decoder: DecoderConfig
    state: TrainState
    step: TrainStep
    prepare: Preparation
    pipeline: Pipeline
    held_out: HeldOut
    data: SftData
    source: dict[str, Any]
    tokenizer: str
    parameters: dict[str, int]
    leak: str
    leaky: bool


def set_up(config: FinetuneConfig) -> Setup:
    """Load, encode, check.

    Raises:
        LeakError: when the training mask leaks and the config does not allow it.
        UserError: for anything wrong with checkpoint, data, mesh or sizes.
    """
    mesh = mesh_of(config)
    full = config.lora is None
    lm = load(
        config.checkpoint,
        dtype=config.step.master_dtype if full else config.step.compute_dtype,
        mesh=mesh,
        layout=config.layout,
    )
    data = config.examples(lm.tokenizer)
    pipeline = Pipeline(
        data.train,
        width=config.data.max_length,
        rows=config.rows,
        seed=config.seed,
        packed=config.data.packed,
    )
    prepare = Preparation(
        mask=config.parsed_mask,
        config=lm.config,
        microbatches=config.microbatches,
        allow_leaky=config.allow_leaky,
        window_policy=config.window_policy,
        kernel=config.kernel,
        mesh=mesh,
    )
    first = pipeline.batch(0)
    prepare.check(first)
    report = prepare.leaks(first)
    if report.leaks and not config.allow_leaky:
        raise LeakError(report)
    held_out = HeldOut(
        data.held_out,
        config.loss_masks,
        prepare=prepare,
        width=config.data.max_length,
        rows_per_batch=config.rows,
        packed=config.data.packed,
        decode_rows=config.decode_rows,
    )
    _check_steering(config, held_out)
    state, step = _state_and_step(config, lm, mesh)
    return Setup(
        config=config,
        decoder=lm.config,
        state=state,
        step=step,
        prepare=prepare,
        pipeline=pipeline,
        held_out=held_out,
        data=data,
        source=dict(lm.source),
        tokenizer=lm.tokenizer.digest,
        parameters={"trained": _count(state.params), "frozen": _count(state.frozen)},
        leak=report.sentence(),
        leaky=bool(report.leaks),
    )


def mesh_of(config: FinetuneConfig) -> Mesh | None:
    """The config's mesh; of several processes at least all their devices."""
    if config.mesh:
        return make_mesh(parse_mesh(config.mesh))
    if processes.count() > 1:
        return make_mesh(parse_mesh(f"data={jax.device_count()}"))
    return None


def _check_steering(config: FinetuneConfig, held_out: HeldOut) -> None:
    first = config.loss_masks[0]
    if held_out.leaky[first] and not config.allow_leaky:
        raise UserError(
            f"the first of eval_masks steers the run and must not leak, got {first!r}; put an "
            "honest one before it or set allow_leaky"
        )


def _state_and_step(
    config: FinetuneConfig, lm: LanguageModel, mesh: Mesh | None
) -> tuple[TrainState, TrainStep]:
    optimiser = make(config.optimiser)
    base = weights(nnx.merge(lm.graph, lm.params))
    if config.lora is None:
        trained, frozen = freeze.split(base, config.frozen)
        assemble = None
    else:
        key = stream(jax.random.PRNGKey(config.seed), "lora", 0)
        trained, frozen = flatten(lora.init(config.lora, lm.config, key=key)), base
        assemble = lora_assemble(lm.config, config.lora, config.layout)
    state = create(
        trained,
        frozen,
        optimiser,
        seed=config.seed,
        master_dtype=config.step.master_dtype,
        compute_dtype=config.step.compute_dtype,
        mesh=mesh,
    )
    step = make_train_step(
        lm.config,
        optimiser=optimiser,
        schedule=config.schedule.over(config.steps),
        settings=config.step,
        mesh=mesh,
        layout=config.layout,
        assemble=assemble,
    )
    return state, step


def _count(weights: dict[str, Array]) -> int:
    return sum(weight.size for weight in weights.values())
