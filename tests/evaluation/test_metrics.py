"""Predictions and metrics of made-up scores are those counted by hand."""

import math
from collections import Counter

import pytest

from jaxablate.data.sources import load_rows
from jaxablate.evaluation import metrics
from jaxablate.evaluation.config import SAMPLES
from jaxablate.evaluation.mcq import MEASURES, NO_TOKENS, ChoiceScore, normalised, predict
from jaxablate.evaluation.metrics import CHANCE_LEVEL
from jaxablate.evaluation.task import Item, find_task, render_rows, task_names


def item(answers, label=0):
    return Item(("so",) * len(answers), tuple(" " + a for a in answers), answers, label, id="v/0")


def scores(*sums, tokens=(1, 1, 1)):
    return [ChoiceScore(s, n, False) for s, n in zip(sums, tokens, strict=False)]


def test_each_measure_divides_by_its_own_length():
    # Two characters, four bytes; four characters, four bytes.
    made = normalised(item(("éé", "abcd")), scores(-2.0, -3.0, tokens=(1, 3)))
    assert made == {
        "acc": [-2.0, -3.0],
        "acc_norm": [-1.0, -0.75],
        "acc_bytes": [-0.5, -0.75],
        "acc_per_token": [-2.0, -1.0],
    }


def test_measures_can_disagree():
    chosen = predict(item(("éé", "abcd")), scores(-2.0, -3.0, tokens=(1, 3)))
    assert chosen == {"acc": 0, "acc_norm": 1, "acc_bytes": 0, "acc_per_token": 1}


def test_the_first_of_equal_choices_wins():
    assert predict(item(("ab", "cd", "ef")), scores(-2.0, -1.0, -1.0))["acc"] == 1


def test_a_choice_without_tokens_never_wins_against_one_with_tokens():
    assert predict(item(("", "ab")), [NO_TOKENS, ChoiceScore(-99.0, 1, False)])["acc"] == 1
    assert predict(item(("", "")), [NO_TOKENS, NO_TOKENS])["acc"] == 0


def test_an_empty_answer_divides_by_one():
    assert normalised(item(("", "ab")), scores(-2.0, -3.0))["acc_norm"] == [-2.0, -1.5]


def record(prediction, label, choices=4, ties=()):
    return {
        "label": label,
        "logprobs": [-1.0] * choices,
        "predictions": dict.fromkeys(MEASURES, prediction),
        "ties": list(ties),
    }


def result(records, **settings):
    defaults = {"primary": "acc", "compat": False, "samples": 500, "seed": 0}
    return metrics.task_result(records, **{**defaults, **settings})


def test_a_task_is_summed_up_as_counted_by_hand():
    records = [record(0, 0)] * 6 + [record(1, 0, ties=["acc"])] * 2 + [record(2, 3, choices=5)] * 2
    found = result(records)
    assert found["total"] == 10
    assert found["accuracy"] == 0.6
    assert found["chance"] == pytest.approx((8 / 4 + 2 / 5) / 10)
    acc = found["measures"]["acc"]
    assert (acc["n"], acc["correct"], acc["ties"]) == (10, 6, 2)
    assert acc["choices"] == [6, 2, 2, 0, 0]
    assert found["labels"] == [8, 0, 0, 2, 0]
    assert acc["standard_error"] == pytest.approx(math.sqrt(0.24 / 9))
    assert acc["chance_corrected"]["value"] == pytest.approx((0.6 - 0.24) / 0.76)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(90, "above chance"), (30, CHANCE_LEVEL), (25, CHANCE_LEVEL), (2, "below chance")],
)
def test_the_verdict_is_an_exact_test_against_guessing(right, verdict):
    records = [record(0, 0)] * right + [record(1, 0)] * (100 - right)
    assert result(records)["measures"]["acc"]["verdict"] == verdict


def test_few_items_are_not_distinguishable_from_chance_even_if_all_are_wrong():
    found = result([record(1, 0)] * 3)["measures"]["acc"]
    assert found["low"] == found["high"] == 0.0
    assert found["verdict"] == CHANCE_LEVEL


def test_macro_is_the_plain_mean_over_tasks():
    tasks = [
        result([record(0, 0)] * 8 + [record(1, 0)] * 2),
        result([record(0, 0, choices=2)] * 50 + [record(1, 0, choices=2)] * 50),
    ]
    macro = metrics.macro_result(tasks, samples=500, seed=0)
    assert set(macro) == {"primary", *MEASURES}
    assert macro["acc"]["value"] == pytest.approx(0.65)
    assert macro["acc"]["chance"] == pytest.approx(0.375)
    assert macro["primary"]["low"] < 0.65 < macro["primary"]["high"]


@pytest.mark.parametrize("name", [n for n in task_names() if not find_task(n).instrument])
def test_bundled_samples_are_balanced_rows_of_every_task(name):
    task = find_task(name)
    rows = load_rows(task.data, "validation", folder=SAMPLES)
    for variant in task.variants:
        items, skipped = render_rows(task, variant, rows, "validation")
        assert (len(items), skipped) == (24, 0)
        labels = Counter(item.label for item in items)
        assert len(set(labels.values())) == 1
        assert len({(item.contexts, item.continuations) for item in items}) == 24


def _result(name, right, **kinds):
    records = [record(0, 0 if index < right else 1) for index in range(10)]
    found = metrics.task_result(records, primary="acc", compat=False, samples=50, seed=0)
    return {"task": name, **found, **kinds}


def test_instruments_are_in_no_mean_over_benchmarks_and_a_canary_in_none_at_all():
    piqa, recall = _result("piqa", 6), _result("recall", 10, instrument=True)
    null = _result("null_mcq", 1, instrument=True, canary=True)

    def macro(*tasks):
        found = metrics.macro_result(tasks, samples=50, seed=0)
        return found["primary"]["value"], found["acc"]["tasks"]

    assert macro(recall, piqa, null) == (0.6, 1)
    assert macro(recall, null) == (1.0, 1)
    assert macro(null) == (0.1, 1)


def test_every_task_says_whether_it_is_an_instrument():
    apart = {name: metrics.kind(find_task(name)) for name in task_names()}
    assert apart["piqa"] == {}
    assert apart["recall_mcq"] == {"instrument": True}
    assert apart["null_mcq"] == {"instrument": True, "canary": True}
