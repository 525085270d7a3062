"""Everything that decides what an evaluation measures, as one frozen record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxablate.core.config import operational
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError
from jaxablate.evaluation.task import VARIANTS, find_task
from jaxablate.masks.algebra import Mask
from jaxablate.masks.parse import parse
from jaxablate.masks.window import POLICIES

SAMPLES = Path(__file__).parent / "samples"
BENCHMARKS = Path(__file__).parent / "benchmarks"
HUB = "hub"
# Rows that come with the package: written for it, or taken from the benchmarks themselves.
BUNDLED = {"samples": SAMPLES, "benchmarks": BENCHMARKS}


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Which checkpoint answers which questions under which masks, and how.

    Attributes:
        checkpoint: folder or hub id.
        tasks: names of tasks, in the order of the report.
        masks: names or algebra, each evaluated on all tasks.
        variant: "standard" asks what lm-evaluation-harness asks; "compat" what the first reference
            system asked (its templates, no BOS, mean over tokens).
        data: "hub", "samples" (a few rows written for this package), "benchmarks" (60 rows of each
            benchmark, bundled) or a folder with `<task>/<split>.jsonl[.gz]`.
        split: split of every task.
        limit: rows of each task; 0 takes all.
        subset: the rows a limit takes: the first ones ("head") or a seeded choice ("random").
        subset_seed: of that choice.
        dtype: of weights and activations; scores are float32 in any case.
        bos: "auto" does what the tokenizer's folder says, and adds none in "compat".
        boundary: how a continuation is cut from its context, see `evaluation.encode`.
        boundary_limit: share of pairs with a token across the border above which the evaluation is
            refused; `compat` has none, since such pairs are what it reproduces.
        max_length: tokens read at most; 0 is the checkpoint's own limit.
        window_policy: what becomes of the model's own sliding window.
        shared: whether choices share one reading of their prompt where that is exact.
        row_length: slots of a packed row; 0 lets the platform decide.
        rows_per_batch: rows of one program call; 0 lets the platform decide.
        kernel: attention kernel, or "auto".
        allow_leaky: score masks under which answers see themselves; stamped on every number.
        bootstrap_samples: resamples behind each interval.
        seed: of the bootstrap.
        mesh: device mesh, such as "fsdp=2"; empty is one device.
        out: the run's folder; empty makes a name under `runs`.
        runs: folder of runs without a name of their own.
        progress_every_s: seconds between progress lines where there is no terminal.
    """

    checkpoint: str
    tasks: tuple[str, ...]
    masks: tuple[str, ...] = ("causal",)
    variant: Literal["standard", "compat"] = "standard"
    data: str = HUB
    split: str = "validation"
    limit: int = 0
    subset: Literal["head", "random"] = "head"
    subset_seed: int = 0
    dtype: str = "float32"
    bos: Literal["auto", "yes", "no"] = "auto"
    boundary: Literal["count", "offset"] = "count"
    boundary_limit: float = 0.1
    max_length: int = 0
    window_policy: str = "causal_side"
    shared: Literal["auto", "never"] = "auto"
    row_length: int = 0
    rows_per_batch: int = 0
    kernel: str = "auto"
    allow_leaky: bool = False
    bootstrap_samples: int = 10_000
    seed: int = 0
    mesh: str = ""
    out: str = operational("")
    runs: str = operational("runs")
    progress_every_s: float = operational(30.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", parse_dtype(self.dtype))
        assert self.variant in VARIANTS
        for name in self.tasks:
            find_task(name)
        _check_distinct("task", self.tasks)
        _check_distinct("mask", [str(mask) for mask in self.parsed_masks])
        _check_least(self, 0, "limit", "max_length", "row_length", "rows_per_batch", "seed")
        _check_least(self, 1, "bootstrap_samples")
        if not 0 <= self.boundary_limit <= 1:
            raise UserError(f"boundary_limit must be in 0..1, got {self.boundary_limit}")
        if self.window_policy not in POLICIES:
            known = ", ".join(POLICIES)
            raise UserError(f"window_policy must be one of {known}, got {self.window_policy!r}")

    @property
    def parsed_masks(self) -> tuple[Mask, ...]:
        """The masks as rules, in order."""
        return tuple(parse(text) for text in self.masks)

    @property
    def data_folder(self) -> Path | None:
        """Where the rows lie; None is the hub."""
        if self.data == HUB:
            return None
        return BUNDLED.get(self.data) or Path(self.data)


def _check_distinct(what: str, names: list[str] | tuple[str, ...]) -> None:
    if not names:
        raise UserError(f"at least one {what} is needed, got none")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{what} {twice!r} is given twice")


def _check_least(config: EvalConfig, least: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise UserError(f"{name} must be >= {least}, got {getattr(config, name)}")
