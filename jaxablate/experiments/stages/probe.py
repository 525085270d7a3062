"""kind: probe. What a mask lets through, measured on a model's weights.

leaks: {kind: probe, probe: leakage, masks: [causal, prefix_lm, full_bidirectional]}
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxablate.core.config import operational, relevant
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError
from jaxablate.core.files import write_json
from jaxablate.experiments.job import PLACED, Hooks, Job
from jaxablate.experiments.spec import COMMON, Stage, check_keys
from jaxablate.experiments.stage import KINDS, Bench, Kind
from jaxablate.masks.parse import parse
from jaxablate.runs.folder import METRICS, RunFolder

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What is measured on which checkpoint.

    Attributes:
        checkpoint: folder or hub id.
        masks: names or algebra, each measured.
        probe: "leakage": later tokens are changed, earlier logits looked at.
        rows: rows of random tokens.
        prompt: tokens of each prompt.
        response: tokens of each response.
        seed: of the tokens.
        dtype: of the weights.
        out: the run's folder.
    """

    checkpoint: str
    masks: tuple[str, ...]
    probe: Literal["leakage"] = "leakage"
    rows: int = 4
    prompt: int = 12
    response: int = 8
    seed: int = 0
    dtype: str = "float32"
    out: str = operational("")

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", parse_dtype(self.dtype))
        if not self.masks:
            raise UserError("at least one mask is needed, got none")
        for text in self.masks:
            parse(text)
        for name, least in (("rows", 1), ("prompt", 2), ("response", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be >= {least}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ProbeJob(Job):
    """One probe of one model."""

    kind = "probe"
    config: ProbeConfig

    @property
    def masks(self) -> str:
        """The masks."""
        return ", ".join(self.config.masks)

    def default_title(self) -> str:
        """Probe and model."""
        return f"{self.config.probe} of {self.model}"

    def check(self) -> None:
        """The config has said all that can be wrong."""

    def execute(self, hooks: Hooks) -> None:
        """Measure each mask with one loading of the weights."""
        del hooks
        from jaxablate.language_model import load

        config: ProbeConfig = self.placed()
        with RunFolder.open(
            Path(config.out).parent,
            kind=self.kind,
            slug=self.name,
            config=relevant(config),
            name=self.run,
        ) as run:
            if run.done:
                return
            lm = load(config.checkpoint, dtype=config.dtype)
            results = [{"name": text, **_measure(lm, text, config)} for text in config.masks]
            write_json(
                run.path / METRICS, {"format": FORMAT, "probe": config.probe, "results": results}
            )
            run.note(weights=lm.source.get("weights"), provenance=self.provenance)
            run.finish("done")


def _measure(lm: Any, mask: str, config: ProbeConfig) -> dict[str, Any]:
    from jaxablate.probes.leakage import measure

    return measure(
        lm,
        parse(mask),
        num_rows=config.rows,
        prompt_length=config.prompt,
        response_length=config.response,
        seed=config.seed,
    )


class Probe(Kind):
    """One probe of one model."""

    def jobs(self, stage: Stage, bench: Bench) -> tuple[Job, ...]:
        """One job."""
        fields = (item.name for item in dataclasses.fields(ProbeConfig))
        known = (*COMMON, *(name for name in fields if name not in PLACED))
        check_keys(stage.settings, known, "setting of a stage of kind 'probe'")
        return (bench.job(ProbeJob, stage, stage.settings, ProbeConfig),)


KINDS.register("probe")(Probe())
