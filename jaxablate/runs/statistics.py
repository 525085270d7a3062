"""Accuracies with intervals, tests against chance, paired comparisons of two runs. Numpy only.

Answers are right or wrong, so a bootstrap over items is a draw of counts: the number of right ones
in a resample is binomial, the cells of a pair table are multinomial. That is exact, not a shortcut.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxablate.core.errors import UserError

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class PairTable(NamedTuple):
    """How two runs did on the same items."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def total(self) -> int:
        """Items in the table."""
        return sum(self)


def pair_table(first: Sequence[bool], second: Sequence[bool]) -> PairTable:
    """Counts of right and wrong of two runs, item by item in the same order."""
    a, b = _aligned(first, second)
    return PairTable(
        int(np.sum(a & b)), int(np.sum(a & ~b)), int(np.sum(~a & b)), int(np.sum(~a & ~b))
    )


def standard_error(correct: int, total: int) -> float:
    """Standard error of a share of right answers (sample deviation over root n)."""
    if total < 2:
        return 0.0
    share = correct / total
    return math.sqrt(share * (1 - share) / (total - 1))


def draw_shares(correct: int, total: int, *, samples: int, seed: int) -> np.ndarray:
    """Bootstrap draws of the share of right answers, float64 [samples]."""
    draws = np.random.default_rng(seed).binomial(total, correct / total, samples)
    return draws / total


def interval(value: float, draws: np.ndarray) -> Interval:
    """Percentile interval of bootstrap draws around an estimate."""
    edge = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(draws, [edge, 100 - edge])
    return Interval(float(value), float(low), float(high))


def accuracy_interval(correct: int, total: int, *, samples: int, seed: int) -> Interval:
    """Share of right answers with its bootstrap interval."""
    draws = draw_shares(correct, total, samples=samples, seed=seed)
    return interval(correct / total, draws)


def macro_interval(counts: Sequence[tuple[int, int]], *, samples: int, seed: int) -> Interval:
    """Plain mean of the shares of several (correct, total), tasks drawn independently."""
    draws = [
        draw_shares(correct, total, samples=samples, seed=seed + index)
        for index, (correct, total) in enumerate(counts)
    ]
    value = sum(correct / total for correct, total in counts) / len(counts)
    return interval(value, np.mean(draws, axis=0))


def macro_standard_error(counts: Sequence[tuple[int, int]]) -> float:
    """Standard error of the plain mean of independent shares."""
    squares = (standard_error(correct, total) ** 2 for correct, total in counts)
    return math.sqrt(sum(squares)) / len(counts)


def chance_corrected(accuracy: float, chance: float) -> float:
    """0 for guessing, 1 for all right; negative below chance.

    >>> chance_corrected(0.625, 0.25)
    0.5
    """
    return (accuracy - chance) / (1 - chance)


def chance_p_value(correct: int, chances: Mapping[float, int]) -> float:
    """Two-sided exact p value of `correct` right answers if every item were guessed.

    Args:
        correct: number of right answers.
        chances: how many items have which probability of being guessed right.
    """
    pmf = np.ones(1)
    for chance, count in chances.items():
        pmf = np.convolve(pmf, _binomial_pmf(count, chance))
    return float(min(1.0, 2 * min(pmf[: correct + 1].sum(), pmf[correct:].sum())))


def mcnemar(table: PairTable) -> float:
    """Exact two-sided McNemar test: do the two runs differ on the items where one is right?"""
    fewer = min(table.only_first, table.only_second)
    discordant = table.only_first + table.only_second
    return float(min(1.0, 2 * _binomial_pmf(discordant, 0.5)[: fewer + 1].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for being a family of tests, by Holm's step-down method.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def draw_pairs(table: PairTable, *, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap draws of both runs' accuracies over the same resampled items."""
    total = table.total
    shares = np.asarray(table) / total
    both, first, second, _ = np.random.default_rng(seed).multinomial(total, shares, samples).T
    return (both + first) / total, (both + second) / total


def paired(
    table: PairTable,
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    samples: int,
    seed: int,
) -> Interval:
    """A function of both runs' accuracies with its paired bootstrap interval."""
    first, second = draw_pairs(table, samples=samples, seed=seed)
    return interval(_at(function, *accuracies(table)), function(first, second))


def accuracies(table: PairTable) -> tuple[float, float]:
    """Both runs' shares of right answers."""
    return (table.both + table.only_first) / table.total, (
        table.both + table.only_second
    ) / table.total


def paired_difference(table: PairTable, *, samples: int, seed: int) -> Interval:
    """Second minus first accuracy, over the same items."""
    return paired(table, lambda first, second: second - first, samples=samples, seed=seed)


def recovery_ratio(table: PairTable, *, samples: int, seed: int) -> Interval | None:
    """Second over first (baseline) accuracy; None when the baseline has nothing right."""
    if accuracies(table)[0] == 0:
        return None
    return paired(table, _ratio, samples=samples, seed=seed)


def retention(table: PairTable, chance: float, *, samples: int, seed: int) -> Interval | None:
    """Share of the baseline's skill above chance that the second run has.

    None unless the baseline is above chance: there is nothing to retain.
    """
    if accuracies(table)[0] <= chance:
        return None
    return paired(
        table,
        lambda first, second: _ratio(first - chance, second - chance),
        samples=samples,
        seed=seed,
    )


def macro_paired(
    tables: Sequence[PairTable],
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    samples: int,
    seed: int,
) -> Interval:
    """A function of both runs' macro accuracies; tasks are drawn independently, items in pairs."""
    draws = [
        draw_pairs(table, samples=samples, seed=seed + index) for index, table in enumerate(tables)
    ]
    first, second = np.mean(draws, axis=0)
    at_first, at_second = np.mean([accuracies(table) for table in tables], axis=0)
    return interval(_at(function, at_first, at_second), function(first, second))


def _at(function: Callable[..., np.ndarray], *values: float) -> float:
    return float(function(*(np.asarray([value]) for value in values))[0])


def _ratio(denominator: np.ndarray, numerator: np.ndarray) -> np.ndarray:
    """Numerator over denominator; resamples without a denominator stand at the far end."""
    safe = np.where(denominator > 0, denominator, np.finfo(float).tiny)
    return np.minimum(numerator / safe, np.finfo(float).max)


def _binomial_pmf(total: int, chance: float) -> np.ndarray:
    """Probabilities of 0..total successes, by logarithms: exact to rounding for large totals."""
    if chance in (0.0, 1.0):
        return np.eye(1, total + 1, int(chance) * total)[0]
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1, dtype=float)))])
    k = np.arange(total + 1)
    choose = logs[total] - logs[k] - logs[total - k]
    return np.exp(choose + k * math.log(chance) + (total - k) * math.log1p(-chance))


def _aligned(first: Sequence[bool], second: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or not a.size:
        raise UserError(
            f"a paired comparison needs the same items, got {a.size} and {b.size} of them"
        )
    return a, b
