"""Intervals and tests equal textbook values, brute force, or resampling item by item."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.runs import statistics
from jaxablate.runs.statistics import PairTable


def test_bootstrap_of_counts_is_the_bootstrap_of_items():
    answers = np.array([True] * 30 + [False] * 70)
    rng = np.random.default_rng(0)
    by_items = answers[rng.integers(0, 100, (20_000, 100))].mean(axis=1)
    by_counts = statistics.draw_shares(30, 100, samples=20_000, seed=1)
    assert by_counts.mean() == pytest.approx(by_items.mean(), abs=2e-3)
    assert by_counts.std() == pytest.approx(by_items.std(), rel=0.03)
    for q in (2.5, 97.5):
        assert np.percentile(by_counts, q) == pytest.approx(np.percentile(by_items, q), abs=0.011)


def test_paired_bootstrap_is_the_bootstrap_of_pairs():
    table = PairTable(40, 25, 10, 25)
    pairs = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], table, axis=0)
    rng = np.random.default_rng(0)
    means = pairs[rng.integers(0, 100, (20_000, 100))].mean(axis=1)
    difference = means[:, 1] - means[:, 0]
    got = statistics.paired_difference(table, samples=20_000, seed=1)
    assert got.value == pytest.approx(-0.15)
    assert got.low == pytest.approx(np.percentile(difference, 2.5), abs=0.011)
    assert got.high == pytest.approx(np.percentile(difference, 97.5), abs=0.011)


def test_intervals_depend_on_the_seed_alone():
    one = statistics.accuracy_interval(30, 100, samples=1000, seed=7)
    assert one == statistics.accuracy_interval(30, 100, samples=1000, seed=7)
    assert one != statistics.accuracy_interval(30, 100, samples=1000, seed=8)
    assert one.low < one.value == 0.3 < one.high


def test_standard_error_is_that_of_the_sample():
    answers = np.array([1.0] * 30 + [0.0] * 70)
    expected = answers.std(ddof=1) / math.sqrt(100)
    assert statistics.standard_error(30, 100) == pytest.approx(expected)
    assert statistics.standard_error(1, 1) == 0.0


def test_macro_is_the_plain_mean_with_independent_tasks():
    counts = [(30, 100), (10, 40), (200, 250)]
    got = statistics.macro_interval(counts, samples=50_000, seed=0)
    error = statistics.macro_standard_error(counts)
    assert got.value == pytest.approx((0.3 + 0.25 + 0.8) / 3)
    assert (got.high - got.low) / 2 == pytest.approx(1.96 * error, rel=0.05)


@given(st.lists(st.sampled_from([0.2, 0.25, 1 / 3, 0.5]), min_size=1, max_size=8), st.data())
def test_chance_p_value_equals_enumeration(chances, data):
    correct = data.draw(st.integers(0, len(chances)))
    pmf = np.zeros(len(chances) + 1)
    for outcome in itertools.product([0, 1], repeat=len(chances)):
        terms = [p if hit else 1 - p for hit, p in zip(outcome, chances, strict=True)]
        pmf[sum(outcome)] += math.prod(terms)
    expected = min(1.0, 2 * min(pmf[: correct + 1].sum(), pmf[correct:].sum()))
    counts = {chance: chances.count(chance) for chance in set(chances)}
    assert statistics.chance_p_value(correct, counts) == pytest.approx(expected, rel=1e-9)


def test_chance_p_value_of_many_items_is_finite_and_fast():
    assert statistics.chance_p_value(2511, {0.25: 10_042}) == pytest.approx(1.0, abs=0.02)
    assert statistics.chance_p_value(6000, {0.25: 10_042}) < 1e-300
    assert 0 < statistics.chance_p_value(2700, {0.25: 10_042}) < 1e-4


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # Sum of the smaller tail of a fair coin, doubled.
        (PairTable(5, 1, 8, 3), 2 * (1 + 9) / 2**9),
        (PairTable(0, 0, 6, 0), 2 / 2**6),
        (PairTable(9, 3, 3, 9), 1.0),
        (PairTable(9, 0, 0, 9), 1.0),
    ],
)
def test_mcnemar_is_the_exact_sign_test(table, expected):
    assert statistics.mcnemar(table) == pytest.approx(expected)


def test_holm_is_monotone_bounded_and_never_below_the_raw_value():
    assert statistics.holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p_values):
    adjusted = statistics.holm(p_values)
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.asarray(adjusted)[order]) >= 0)
    for raw, corrected in zip(p_values, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, raw * len(p_values)) + 1e-12 or corrected >= raw


def test_ratios_of_a_run_to_its_baseline():
    table = PairTable(both=30, only_first=30, only_second=10, neither=30)
    recovery = statistics.recovery_ratio(table, samples=5000, seed=0)
    assert recovery.value == pytest.approx(0.4 / 0.6)
    kept = statistics.retention(table, 0.25, samples=5000, seed=0)
    assert kept.value == pytest.approx((0.4 - 0.25) / (0.6 - 0.25))
    assert recovery.low < recovery.value < recovery.high
    assert kept.low < kept.value < kept.high


def test_a_baseline_without_skill_has_nothing_to_retain():
    assert statistics.retention(PairTable(5, 20, 30, 45), 0.25, samples=10, seed=0) is None
    assert statistics.recovery_ratio(PairTable(0, 0, 5, 5), samples=10, seed=0) is None


def test_macro_of_one_task_is_that_task():
    table = PairTable(30, 20, 10, 40)
    one = statistics.paired_difference(table, samples=1000, seed=3)
    macro = statistics.macro_paired([table], lambda a, b: b - a, samples=1000, seed=3)
    assert macro == one


def test_pairs_need_the_same_items():
    assert statistics.pair_table([True, True, False], [True, False, False]) == (1, 1, 0, 1)
    with pytest.raises(UserError, match="got 2 and 3"):
        statistics.pair_table([True, False], [True, False, True])
    with pytest.raises(UserError, match="got 0 and 0"):
        statistics.pair_table([], [])


def test_chance_correction_is_linear_between_guessing_and_perfect():
    assert statistics.chance_corrected(0.25, 0.25) == 0
    assert statistics.chance_corrected(1.0, 0.25) == 1
    assert statistics.chance_corrected(0.1, 0.25) == pytest.approx(-0.2)
