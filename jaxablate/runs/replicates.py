"""Accuracies of models that were trained several times: what questions and what seeds leave open.

Answers are right or wrong, seed by question. An interval here holds both sources of chance:
questions are drawn anew (each keeps its mean over the seeds), and to every draw a deviation of the
mean over seeds is added, Student's t with one degree of freedom less than there are seeds. Of three
seeds that is wide, as it should be: three numbers tell little of a spread. Numpy only.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxablate.runs.statistics import Interval, interval

# Bool[seeds questions] of one task.
Answers = np.ndarray
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_seed(tasks: Sequence[Answers]) -> np.ndarray:
    """The plain mean over tasks of each seed, float64 [seeds]."""
    return np.mean([answers.mean(axis=1) for answers in tasks], axis=0)


def mean_interval(tasks: Sequence[Answers], *, samples: int, seed: int) -> Interval:
    """The plain mean over tasks and seeds with its 95 % interval."""
    draws, _ = draw(tasks, tasks, matched=True, samples=samples, seed=seed)
    return interval(float(by_seed(tasks).mean()), draws)


def draw(
    first: Sequence[Answers],
    second: Sequence[Answers],
    *,
    matched: bool,
    samples: int,
    seed: int,
) -> np.ndarray:
    """Draws of both models' mean accuracies over the same tasks and questions.

    Args:
        first: answers of one model, task by task; one row stands for a model without seeds.
        second: answers of the other one to the same questions.
        matched: row k of both has the same seed, so that their deviations belong together.
        samples: how many.
        seed: of the draws.

    Returns:
        float64 [2, samples], within 0..1.
    """
    found = np.zeros((2, samples))
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        found += _question_draws(one, other, samples, seed + index)
    found /= len(first)
    generator = np.random.default_rng((seed, 1))
    sides = [by_seed(first)[:, None], by_seed(second)[:, None]]
    if matched:
        found += _seed_draws(np.hstack(sides), samples, generator)
    else:
        found += np.vstack([_seed_draws(side, samples, generator) for side in sides])
    return np.clip(found, 0.0, 1.0)


def paired(
    first: Sequence[Answers],
    second: Sequence[Answers],
    function: Function,
    *,
    matched: bool,
    samples: int,
    seed: int,
) -> Interval:
    """A function of both models' mean accuracies with its 95 % interval."""
    draws = draw(first, second, matched=matched, samples=samples, seed=seed)
    at = (np.asarray([by_seed(side).mean()]) for side in (first, second))
    return interval(float(function(*at)[0]), function(*draws))


def p_value(draws: np.ndarray) -> float:
    """Two-sided p value of draws of a difference: how often they lie on the other side of zero.

    >>> p_value(np.array([0.1, 0.2, 0.3]))
    0.5
    """
    beyond = min(int(np.sum(draws <= 0)), int(np.sum(draws >= 0)))
    return min(1.0, 2 * (beyond + 1) / (len(draws) + 1))


def _question_draws(one: Answers, other: Answers, samples: int, seed: int) -> np.ndarray:
    """Means over resampled questions, float64 [2, samples]; a draw of counts of equal questions."""
    means = np.stack([one.mean(axis=0), other.mean(axis=0)], axis=1)
    kinds, counts = np.unique(means, axis=0, return_counts=True)
    total = counts.sum()
    picked = np.random.default_rng(seed).multinomial(total, counts / total, samples)
    return (picked @ kinds).T / total


def _seed_draws(values: np.ndarray, samples: int, generator: np.random.Generator) -> np.ndarray:
    """Deviations of the mean over seeds of values [seeds, columns], float64 [columns, samples].

    A multivariate Student t whose scale is the sample covariance over the number of seeds; zero
    for one seed, of which no spread is known.
    """
    count, columns = values.shape
    if count < 2:
        return np.zeros((columns, samples))
    rest = values - values.mean(axis=0)
    normal = generator.standard_normal((samples, count)) @ rest / math.sqrt((count - 1) * count)
    scale = np.sqrt(generator.chisquare(count - 1, samples) / (count - 1))
    return (normal / scale[:, None]).T
