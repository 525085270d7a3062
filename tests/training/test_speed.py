"""Rates and shares against counts by hand; the number of operations against XLA's own."""

import jax
import numpy as np
import pytest

from jaxablate.models.layout import weights
from jaxablate.training.speed import Speed, flops_per_token, matmul_parameters, peak_flops
from tests.training.setting import Run, model, varied

FULL = {"trained": 1, "frozen": 0}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Device:
    process_index = 0

    def __init__(self, kind="NVIDIA H200", peak=None):
        self.device_kind, self.peak = kind, peak

    def memory_stats(self):
        return None if self.peak is None else {"peak_bytes_in_use": self.peak}


def meter(**settings):
    clock = Clock()
    speed = Speed(model().config, FULL, width=16, clock=clock, **settings)
    return clock, speed


def train_line(step, tokens, slots):
    return {"step": step, "kind": "train", "loss": 1.0, "tokens": tokens, "slots": slots}


def test_matmul_parameters_are_the_matrices_of_the_decoder_without_its_embedding():
    lm = model()
    from flax import nnx

    arrays = weights(nnx.merge(lm.graph, lm.params))
    matrices = {path: a.size for path, a in arrays.items() if a.ndim == 2}
    looked_up = 0 if lm.config.tied else matrices["embedding/weight"]
    assert matmul_parameters(lm.config) == sum(matrices.values()) - looked_up


def test_operations_are_about_those_that_xla_counts_for_a_gradient():
    run = Run()
    part = jax.tree.map(lambda array: array[0], run.prepare(varied(rows=8, width=16)))

    def loss(params):
        return run.step._term(params, {}, part, key=run.state.key).sum

    cost = jax.jit(jax.grad(loss)).lower(run.state.params).compile().cost_analysis()
    ours = 8 * 16 * flops_per_token(model().config, FULL, 16.0)
    # XLA counts softmax and norms too, and at these sizes they are not nothing.
    assert 1.0 < cost["flops"] / ours < 1.2


def test_frozen_weights_take_no_gradient():
    config = model().config
    matrices = matmul_parameters(config)
    full = flops_per_token(config, FULL, 8.0)
    some = flops_per_token(config, {"trained": 10, "frozen": matrices}, 8.0)
    assert full - some == 2 * (matrices - 10)


def test_a_window_caps_what_a_layer_attends_to():
    import dataclasses

    config = dataclasses.replace(model().config, windows=(4, None))
    gone = flops_per_token(model().config, FULL, 8.0) - flops_per_token(config, FULL, 8.0)
    assert gone == 12 * config.num_heads * config.head_dim * (8 - 4)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
    ],
)
def test_peaks_by_the_name_of_the_device(kind, peak):
    assert peak_flops(kind) == peak


def test_an_entry_is_about_its_own_window_without_pauses():
    clock, speed = meter(devices=[Device(), Device(peak=7), Device(peak=9)])
    clock.now += 50
    speed.entry(train_line(10, 100, 400))
    clock.now += 3
    with speed.paused():
        clock.now += 1000
    clock.now += 1
    entry = speed.entry(train_line(20, 100, 400))
    per_token = flops_per_token(model().config, FULL, 8.0)
    assert entry == {
        "step": 20,
        "seconds": 4.0,
        "tokens_per_s": 100.0,
        "real_tokens_per_s": 25.0,
        "real_share": 0.25,
        "mfu": pytest.approx(25 * per_token / (3 * 989e12)),
        "memory_bytes": 9,
    }


def test_a_pause_that_fails_is_a_pause():
    clock, speed = meter()

    def fail():
        clock.now += 10
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), speed.paused():
        fail()
    clock.now += 2
    assert speed.entry(train_line(10, 1, 1))["seconds"] == 2.0


def test_totals_leave_out_the_window_that_compiles():
    clock, speed = meter()
    for step, seconds in ((10, 90), (20, 4), (30, 6)):
        clock.now += seconds
        speed.entry(train_line(step, 100, 200))
    with speed.paused():
        clock.now += 20
    totals = speed.totals()
    assert (totals["seconds"], totals["train_seconds"]) == (120.0, 100.0)
    assert (totals["tokens_per_s"], totals["real_tokens_per_s"]) == (40.0, 20.0)


def test_one_window_is_better_than_none():
    clock, speed = meter()
    clock.now += 10
    speed.entry(train_line(10, 100, 200))
    assert speed.totals()["tokens_per_s"] == 20.0


def test_without_a_window_there_are_no_rates():
    _, speed = meter()
    totals = speed.totals()
    assert {totals[name] for name in ("tokens_per_s", "real_share", "mfu")} == {None}


def test_a_device_without_a_known_peak_has_no_utilisation():
    for devices in (None, [Device(), Device("toaster")]):
        clock, speed = meter(devices=devices)
        clock.now += 1
        assert speed.entry(train_line(1, 1, 1))["mfu"] is None


def test_on_this_machine_the_real_clock_runs():
    speed = Speed(model().config, FULL, width=16)
    np.asarray(jax.numpy.ones(3))
    assert speed.entry(train_line(1, 1, 1))["seconds"] > 0
