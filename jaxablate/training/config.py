"""Everything that decides what a finetuning run learns, as one frozen record."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jaxablate.checkpoints.steps import SaveConfig
from jaxablate.core.config import operational
from jaxablate.core.errors import UserError, unknown
from jaxablate.core.mesh import parse_mesh
from jaxablate.data.sft_config import DataConfig, SftData, load_examples
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY
from jaxablate.kernels.attention import KERNELS
from jaxablate.latent.lora import LoRAConfig
from jaxablate.masks.algebra import Mask
from jaxablate.masks.parse import parse
from jaxablate.masks.window import POLICIES
from jaxablate.models.decoder import LAYOUTS
from jaxablate.runs.stop_rules import StopConfig
from jaxablate.training.optimiser import OptimiserConfig
from jaxablate.training.schedules import Schedule
from jaxablate.training.step import StepConfig


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over a run, see `training.schedules.Schedule`.

    Attributes:
        kind: cosine, linear, constant, constant_with_warmup or wsd.
        peak: the highest rate.
        warmup_steps: steps of linear rise from 0.
        warmup_share: the same as a share of all steps, rounded up; only one of the two is given.
        decay_steps: steps of the last part of "wsd".
        final_share: the rate at the end, as a share of the peak.
    """

    kind: str = "cosine"
    peak: float = 2e-5
    warmup_steps: int = 0
    warmup_share: float = 0.0
    decay_steps: int = 0
    final_share: float = 0.0

    def __post_init__(self):
        if self.warmup_steps and self.warmup_share:
            raise UserError("give warmup_steps or warmup_share, not both")
        if not 0 <= self.warmup_share <= 1:
            raise UserError(f"warmup_share must be between 0 and 1, got {self.warmup_share}")

    def over(self, steps: int) -> Schedule:
        """The schedule of a run of so many steps."""
        return Schedule(
            kind=self.kind,
            peak=self.peak,
            total_steps=steps,
            warmup_steps=self.warmup_steps or math.ceil(self.warmup_share * steps),
            decay_steps=self.decay_steps,
            final_share=self.final_share,
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Which checkpoint learns from which data under which mask, and how.

    Attributes:
        checkpoint: folder, hub id, or the folder of a finetuning run.
        mask: who may attend to whom in training.
        eval_masks: masks under which the held-out loss is measured; empty is the training mask.
            The first one steers the plateau rule and the choice of the best checkpoint.
        data: what is learned from.
        steps: optimiser steps.
        rows: rows of a step, over all devices.
        microbatches: parts of a step that run one after the other; the result is the same.
        optimiser: which, and its settings.
        schedule: the learning rate.
        step: precision, clipping, rematerialisation.
        frozen: patterns of weights that are not trained, such as "embedding/*".
        lora: train a low-rank update in place of the weights.
        seed: of the order of data, LoRA's start, dropout and rounding.
        allow_leaky: train although a token can see its own target; stamped on everything.
        window_policy: what becomes of the model's own sliding window.
        kernel: attention kernel, or "auto".
        layout: of the weights while training, see `language_model.load`.
        log_every: steps of one line of metrics; the stop rules see their mean loss.
        eval_every: steps between evaluations; the last step is always evaluated.
        eval_at: further steps to evaluate at; 0 is before the first step.
        decode_rows: held-out examples whose loss is also measured token by token through the
            cache, where nothing can be seen that is not there yet; 0 measures none.
        stop: rules that end a run early.
        use: which checkpoint the run stands for: the best held-out loss, or the last.
        save: how often a checkpoint is written, and which are kept.
        mesh: device mesh, such as "fsdp=2"; empty is one device, or all of several processes.
        trackers: where metrics go as well: "tensorboard", "wandb".
        out: the run's folder; empty makes a name under `runs`.
        runs: folder of runs without a name of their own.
    """

    checkpoint: str
    steps: int
    mask: str = "causal"
    eval_masks: tuple[str, ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    rows: int = 16
    microbatches: int = 1
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    step: StepConfig = field(default_factory=StepConfig)
    frozen: tuple[str, ...] = ()
    lora: LoRAConfig | None = None
    seed: int = 0
    allow_leaky: bool = False
    window_policy: str = DEFAULT_WINDOW_POLICY
    kernel: str = "auto"
    layout: str = "loop"
    log_every: int = 10
    eval_every: int = 100
    eval_at: tuple[int, ...] = (0,)
    decode_rows: int = 0
    stop: StopConfig = field(default_factory=StopConfig)
    use: Literal["best", "last"] = "best"
    save: SaveConfig = field(default_factory=SaveConfig, metadata={"operational": True})
    mesh: str = operational("")
    trackers: tuple[str, ...] = operational(())
    out: str = operational("")
    runs: str = operational("runs")

    def __post_init__(self) -> None:
        for name in ("steps", "rows", "microbatches", "log_every", "eval_every"):
            _check_least(self, name, 1)
        for name in ("seed", "decode_rows"):
            _check_least(self, name, 0)
        if self.rows % self.microbatches:
            raise UserError(f"rows ({self.rows}) must divide by microbatches ({self.microbatches})")
        late = [step for step in self.eval_at if not 0 <= step <= self.steps]
        if late:
            raise UserError(f"eval_at must be within 0..steps ({self.steps}), got {late[0]}")
        self._check_names()
        self._check_lora()
        parse_mesh(self.mesh)
        self.schedule.over(self.steps)

    def _check_names(self) -> None:
        for name, known in (
            ("window_policy", POLICIES),
            ("kernel", (*KERNELS, "auto")),
            ("layout", LAYOUTS),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        masks = self.loss_masks
        twice = next((name for name in masks if masks.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"eval_masks names {twice!r} twice")
        for name in (self.mask, *masks):
            parse(name)

    def _check_lora(self) -> None:
        if self.lora is None:
            return
        if self.frozen:
            raise UserError("frozen is for training the weights; with lora all of them are frozen")
        if self.layout != "loop":
            raise UserError(f"lora trains with layout 'loop', got {self.layout!r}")

    @property
    def slug(self) -> str:
        """The readable part of a folder's name that is made."""
        return Path(self.checkpoint).name

    def examples(self, tokenizer: Tokenizer) -> SftData:
        """What is learned from, and what the loss is measured on."""
        return load_examples(self.data, tokenizer)

    @property
    def parsed_mask(self) -> Mask:
        """The training mask as a rule."""
        return parse(self.mask)

    @property
    def loss_masks(self) -> tuple[str, ...]:
        """Masks of the held-out loss, as written."""
        return self.eval_masks or (self.mask,)

    def evaluates(self, step: int) -> bool:
        """Whether the held-out loss is due after so many steps."""
        regular = step > 0 and step % self.eval_every == 0
        return regular or step in self.eval_at or step == self.steps


def _check_least(config: FinetuneConfig, name: str, least: int) -> None:
    if getattr(config, name) < least:
        raise UserError(f"{name} must be >= {least}, got {getattr(config, name)}")
