"""Attention kernels: what each is, and which one serves a mask, asked of the code that decides."""

import importlib

import jax

from jaxablate.core.slots import rows
from jaxablate.kernels.attention import KERNELS, LADDER, Choice, choose
from jaxablate.kernels.call import Call
from jaxablate.masks.lower import lower
from jaxablate.masks.parse import parse
from reference import docstrings
from reference.markdown import code, table

MASKS = (
    "causal",
    "full_bidirectional",
    "prefix_lm",
    "sliding_window(128)",
    "sliding_window(128) | within(prompt)",
    "causal & (window(128) | sink(4))",
)
LENGTHS = (1, 100, 512, 4096)


def markdown() -> str:
    """The kernels in the order in which they are asked, then who serves what."""
    order = (*LADDER, *(name for name in KERNELS if name not in LADDER))
    listed = [(code(name), _about(name)) for name in order]
    return "\n".join((table(("kernel", ""), listed), _served()))


def _about(name: str) -> str:
    kernel = KERNELS[name]
    module = importlib.import_module(kernel.run.__module__)
    one_of_two = kernel.run.__name__ != "run"
    return docstrings.prose(kernel.declines if one_of_two else module).split("\n\n")[0]


def _served() -> str:
    found = [
        (code(mask), str(length), _shown(gpu), _shown(cpu))
        for mask in MASKS
        for length in LENGTHS[1:]
        for gpu, cpu in [[_choice(mask, length, platform) for platform in ("gpu", "cpu")]]
    ]
    return table(("mask", "length", "NVIDIA GPU", "CPU"), found)


def _shown(choice: Choice) -> str:
    return f"{code(choice.kernel)} (as {choice.kind})"


def _choice(mask: str, length: int, platform: str) -> Choice:
    """Two padded rows with a prompt each, bfloat16, heads 128 wide, as `jaxablate mask` asks."""
    lengths = [length, (length + 1) // 2]
    slots = rows(lengths, length, [(n + 1) // 2 for n in lengths])
    lowered = lower(parse(mask).at(0, 0), slots, slots)
    q = jax.ShapeDtypeStruct((2, length, 32, 128), "bfloat16")
    k = jax.ShapeDtypeStruct((2, length, 8, 128), "bfloat16")
    return choose(Call.of(lowered, q, k, platform))
