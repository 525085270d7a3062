"""Hugging Face folders, read into decoders and written from them.

Weights keep Hugging Face's (out, in) layout, so nothing is transposed; each process reads only
the bytes of its own shards.
"""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxablate.checkpoints.export import save_hf
from jaxablate.checkpoints.placement import sharding_for
from jaxablate.checkpoints.plan import Plan, plan_load
from jaxablate.checkpoints.stream import Streamer
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.watch import tell
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder
from jaxablate.models.layout import build

__all__ = ["Loaded", "load_hf", "read_hf", "read_planned", "save_hf"]


@dataclass(frozen=True)
class Loaded:
    """A decoder, its config, and what loading did: types read, tensors and keys not used."""

    decoder: Decoder
    config: DecoderConfig
    report: dict[str, Any]


def load_hf(
    folder: str | Path, *, dtype: str, mesh: Mesh | None = None, layout: str = "loop"
) -> tuple[Decoder, DecoderConfig]:
    """The decoder of a Hugging Face folder, with all weights in `dtype`; see `read_hf`."""
    loaded = read_hf(folder, dtype=dtype, mesh=mesh, layout=layout)
    return loaded.decoder, loaded.config


def read_hf(
    folder: str | Path, *, dtype: str, mesh: Mesh | None = None, layout: str = "loop"
) -> Loaded:
    """The decoder of a Hugging Face folder and a report.

    FP8 weights are multiplied by their scales in float32 and then rounded to `dtype`. With a mesh
    the weights are split over it; without one they lie on the first device.

    Raises:
        UserError: naming the file or tensor, unless every tensor is either read or known not to
            be needed, and every value is finite.
    """
    return read_planned(plan_load(folder, layout=layout), dtype=dtype, mesh=mesh)


def read_planned(plan: Plan, *, dtype: str, mesh: Mesh | None = None) -> Loaded:
    """Do what the plan says; see `read_hf`."""
    target = np.dtype(parse_dtype(dtype))
    arrays = {}
    sizes = [math.prod(source.shape) * target.itemsize for source in plan.sources.values()]
    with Streamer() as streamer:
        for done, (path, source) in zip(
            itertools.accumulate(sizes), plan.sources.items(), strict=True
        ):
            sharding = sharding_for(path, source.shape, mesh)
            arrays[path] = streamer.load(source, dtype=target, sharding=sharding)
            tell("reading weights", done, sum(sizes))
    decoder = build(plan.config, arrays, layout=plan.layout)
    return Loaded(decoder, plan.config, plan.report)
