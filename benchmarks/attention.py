"""Attention kernels on the live accelerator: error against float32 and speed, by mask and length.

    python benchmarks/attention.py --lengths 512 1024 4096

Errors are ||out - ref|| / ||ref|| of the output and of dq, dk, dv, against the float32 reference on
the same bfloat16 inputs. TFLOP/s count the visible pairs only: 4 H N pairs forward.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxablate.core.slots import Slots, rows
from jaxablate.kernels.attention import KERNELS, choose, default_platform
from jaxablate.kernels.call import Call
from jaxablate.kernels.reference import softmax_attention
from jaxablate.masks.lower import lower, row_intervals
from jaxablate.masks.parse import parse

HEADS, KV_HEADS, WIDTH = 32, 8, 128


def slots_for(name: str, batch: int, length: int) -> Slots:
    """Ragged prompts P[b] = T (b + 1/2) / B; for "branches" a prompt of T/4 and four branches."""
    prompts = (length * (np.arange(batch) + 0.5) / batch).astype(int)
    slots = rows([length] * (batch - 1) + [length - 37], length, prompts)
    if name == "branches":
        quarter = length // 4
        slots = rows([length] * batch, length, [quarter] * batch)
        branch = 1 + (np.arange(length) - quarter) * 4 // (length - quarter)
        slots.branch[:] = np.where(np.arange(length) < quarter, 0, branch)
        for b in range(1, 5):
            at = np.flatnonzero(branch == b)
            slots.position[:, at] = quarter + np.arange(len(at))
    return slots


def seconds(function, *arguments: object) -> float:
    """Median over five of the mean of ten calls in a row, after two calls."""
    times = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(10):
            out = function(*arguments)
        jax.block_until_ready(out)
        times.append((time.perf_counter() - started) / 10)
    return float(np.median(times[2:]))


def measure(text: str, layout: str, batch: int, length: int) -> list[dict]:
    """Every kernel that serves the mask."""
    slots = slots_for(layout, batch, length)
    lowered = lower(parse(text), slots, slots)
    keys = jax.random.split(jax.random.key(length), 4)
    q, k, v, weight = (
        jax.random.normal(key, (batch, length, n, WIDTH), jnp.bfloat16)
        for key, n in zip(keys, (HEADS, KV_HEADS, KV_HEADS, HEADS), strict=True)
    )
    scale = WIDTH**-0.5
    pairs = int(row_intervals(parse(text), slots, slots).pairs().sum())

    few = max(2, batch // 16)
    part = tuple(x[:few] for x in (q, k, v, weight))

    def reference(q, k, v, lowered):
        with jax.default_matmul_precision("highest"):
            wide = (x.astype(jnp.float32) for x in (q, k, v))
            return softmax_attention(*wide, lowered.boolean(length), scale=scale)

    first = lower(parse(text), slots.map(lambda x: x[:few]), slots.map(lambda x: x[:few]))
    expected = grads(reference, *part, first) if length <= 1024 else None
    found = []
    for name in ("cudnn", "cudnn_dense", "xla"):
        call = Call.of(lowered, q, k, default_platform())
        if KERNELS[name].declines(call):
            continue

        def run(q, k, v, lowered, kernel=KERNELS[name]):
            return kernel.run(q, k, v, lowered, scale=scale)

        row = {"mask": text, "layout": layout, "T": length, "B": batch, "kernel": name}
        row["chosen"] = choose(call).kernel == name
        took = seconds(jax.jit(run), q, k, v, lowered)
        row["forward_ms"], row["tflops"] = 1e3 * took, 4 * WIDTH * HEADS * pairs / took / 1e12
        if expected is not None:
            got = grads(run, *part, first)
            row["errors"] = [error(a, b) for a, b in zip(got, expected, strict=True)]
        found.append(row)
    return found


def grads(function, q, k, v, weight, lowered) -> list:
    """Output and gradients of sum(out * weight)."""

    def loss(q, k, v, weight, lowered):
        out = function(q, k, v, lowered)
        return jnp.sum(out.astype(jnp.float32) * weight.astype(jnp.float32)), out

    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, out), gradient = both(q, k, v, weight, lowered)
    return [np.asarray(x, np.float32) for x in (out, *gradient)]


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """Relative; not a number when anything is not finite."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def main() -> None:
    """All masks at all lengths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = []
    for length in arguments.lengths:
        batch = max(4, 32768 // length)
        for text, layout in (
            ("causal", "plain"),
            ("full_bidirectional", "plain"),
            ("prefix_lm", "plain"),
            (f"sliding_window({length // 8})", "plain"),
            ("prefix_lm & window(256)", "plain"),
            ("prefix_lm", "branches"),
        ):
            for row in measure(text, layout, batch, length):
                table.append(row)
                errors = " ".join(f"{e:.1e}" for e in row.get("errors", []))
                print(
                    f"T {length:5d} {text:24s} {layout:9s} {row['kernel']:12s}"
                    f"{'*' if row['chosen'] else ' '} {row['forward_ms']:8.3f} ms "
                    f"{row['tflops']:6.1f} TFLOP/s  errors {errors}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
