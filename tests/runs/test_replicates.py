"""Intervals over questions and seeds: what they hold, and that they are honest."""

import numpy as np
import pytest

from jaxablate.runs import statistics
from jaxablate.runs.replicates import by_seed, draw, mean_interval, p_value, paired

SETTINGS = {"samples": 4000, "seed": 0}


def answers(rate, *, seeds=3, items=400, generator=None):
    return (generator or np.random.default_rng(0)).random((seeds, items)) < rate


def minus(first, second):
    return second - first


def test_equal_seeds_have_the_interval_of_one_run():
    one = answers(0.7, seeds=1)
    got = mean_interval([np.repeat(one, 3, axis=0)], **SETTINGS)
    want = statistics.accuracy_interval(int(one.sum()), one.size, **SETTINGS)
    assert got.value == want.value
    assert got == pytest.approx(want, abs=2e-3)


def test_seeds_that_differ_widen_it_and_three_of_them_more_than_their_own_spread():
    base = answers(0.7, seeds=1, items=4000)
    spread = np.concatenate([base, base, base])
    spread[1, :200] = True
    spread[2, -200:] = False
    got = mean_interval([spread], **SETTINGS)
    values = by_seed([spread])
    assert got.low < values.min() < values.max() < got.high
    # Student's t with two degrees of freedom, 4.30, over the error of the mean.
    half = 4.30 * values.std(ddof=1) / np.sqrt(3)
    assert (got.high - got.low) / 2 == pytest.approx(half, rel=0.15)


def test_the_mean_is_over_tasks_of_any_size_and_over_seeds():
    tasks = [answers(0.9, items=10), answers(0.3, items=1000)]
    want = (tasks[0].mean() + tasks[1].mean()) / 2
    assert mean_interval(tasks, **SETTINGS).value == pytest.approx(want)


def test_a_difference_is_paired_by_question_and_where_seeds_match_by_seed():
    generator = np.random.default_rng(1)
    first = answers(0.6, items=2000, generator=generator)
    first[1, :400], first[2, :400] = True, False
    second = first.copy()
    second[:, -100:] = True
    widths = {}
    for matched in (True, False):
        got = paired([first], [second], minus, matched=matched, **SETTINGS)
        assert got.value == pytest.approx(second.mean() - first.mean())
        widths[matched] = got.high - got.low
    assert widths[True] < 0.2 * widths[False]


def test_a_model_without_seeds_is_compared_with_the_mean_of_one_that_has():
    base, tuned = answers(0.5, seeds=1), answers(0.8)
    got = paired([base], [tuned], minus, matched=False, **SETTINGS)
    assert got.value == pytest.approx(tuned.mean() - base.mean())
    assert got.low > 0.1


def test_coverage_is_near_95_per_cent_with_three_seeds():
    generator, inside, rounds = np.random.default_rng(5), 0, 300
    for number in range(rounds):
        rates = np.clip(generator.normal(0.7, 0.04, (3, 1)), 0, 1)
        found = generator.random((3, 200)) < rates
        low, high = mean_interval([found], samples=400, seed=number)[1:]
        inside += low <= 0.7 <= high
    assert inside / rounds >= 0.93


def test_p_values_fall_with_the_difference():
    base = answers(0.5, seeds=1)
    same, better = answers(0.5), answers(0.9)
    values = []
    for other in (same, better):
        first, second = draw([base], [other], matched=False, **SETTINGS)
        values.append(p_value(second - first))
    assert values[0] > 0.05 > values[1]


def test_draws_are_accuracies():
    low = np.zeros((3, 4), bool)
    low[0] = True
    found = draw([low], [~low], matched=True, **SETTINGS)
    assert found.shape == (2, SETTINGS["samples"])
    assert found.min() >= 0
    assert found.max() <= 1
