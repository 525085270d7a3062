"""The order of data is a function of seed and step, whoever asks and from wherever it resumes."""

import json
import subprocess
import sys
from collections import Counter

import jax
import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.batch import Example, counts
from jaxablate.data.pipeline import Pipeline, in_order, permutation

RNG = np.random.default_rng(0)
EXAMPLES = [
    Example(str(n), RNG.integers(0, 90, size, dtype=np.int32), int(RNG.integers(1, size)))
    for n, size in enumerate(RNG.integers(2, 20, 150))
]


def pipeline(**changes):
    return Pipeline(EXAMPLES, **{"width": 32, "rows": 4, "seed": 11, **changes})


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in leaves)


def test_a_batch_is_a_function_of_seed_and_step():
    steps = [0, 9, 3, 200, 3]
    there, again = pipeline(), pipeline()
    for step in steps:
        assert same(there.batch(step), again.batch(step))
    assert not same(there.batch(0), pipeline(seed=12).batch(0))


@pytest.mark.parametrize("packed", [True, False])
def test_an_epoch_takes_each_example_at_most_once_and_leaves_under_a_step_of_rows(packed):
    order = pipeline(packed=packed)
    first = [row for step in range(order.steps_per_epoch) for row in order.members(step)]
    seen = Counter(index for row in first for index in row)
    assert set(seen.values()) == {1}
    assert order.num_rows - len(first) < order.rows
    second = [order.members(order.steps_per_epoch + step) for step in range(3)]
    assert second != [order.members(step) for step in range(3)]


def test_steps_do_not_go_from_long_to_short():
    order = pipeline(packed=False)
    lengths = [counts(order.batch(step))["tokens"] for step in range(order.steps_per_epoch)]
    half = len(lengths) // 2
    assert abs(np.mean(lengths[:half]) - np.mean(lengths[half:])) < 0.25 * np.mean(lengths)
    packed = pipeline()
    members = [packed.members(step) for step in range(packed.steps_per_epoch)]
    longest = [max(len(EXAMPLES[i].tokens) for row in rows for i in row) for rows in members]
    assert longest != sorted(longest, reverse=True)


@pytest.mark.parametrize("num_hosts", [2, 4])
def test_hosts_share_the_batch_that_one_host_would_read(num_hosts):
    hosts = [pipeline(host=host, num_hosts=num_hosts) for host in range(num_hosts)]
    for step in (0, 7, 31):
        parts = [host.batch(step) for host in hosts]
        joined = jax.tree.map(lambda *fields: np.concatenate(fields), *parts)
        assert same(joined, pipeline().batch(step))
    assert len({host.fingerprint for host in hosts}) == 1


def test_the_position_is_plain_json_and_names_its_order():
    order = pipeline()
    state = json.loads(json.dumps(order.state(23)))
    assert pipeline(host=1, num_hosts=2).step_of(state) == 23
    changes = [{"seed": 12}, {"rows": 2}, {"width": 40}, {"packed": False}]
    others = [pipeline(**change) for change in changes]
    others.append(Pipeline(EXAMPLES[::-1], width=32, rows=4, seed=11))
    for other in others:
        with pytest.raises(UserError, match="another order of data"):
            other.step_of(state)


def test_prefetched_batches_are_those_of_the_steps_and_resume_by_state():
    pytest.importorskip("grain")
    order = pipeline()
    iterator = iter(order.prefetch(5, 12))
    got = [next(iterator) for _ in range(3)]
    state = iterator.get_state()
    rest = list(iterator)
    for step, batch in enumerate([*got, *rest], start=5):
        assert same(batch, order.batch(step))
    assert len(got) + len(rest) == 7
    resumed = iter(order.prefetch(5, 12))
    resumed.set_state(json.loads(json.dumps(state)))
    assert same(next(resumed), order.batch(8))


def test_what_is_made_of_batches_ahead_keeps_their_order_and_errors_come_at_their_step():
    pytest.importorskip("grain")
    order = pipeline()
    wrong = order.batch(9).tokens

    def then(batch):
        if np.array_equal(batch.tokens, wrong):
            raise UserError("refused")
        return batch.tokens.sum()

    iterator = iter(order.prefetch(5, 12, then=then))
    assert [next(iterator) for _ in range(4)] == [order.batch(s).tokens.sum() for s in range(5, 9)]
    with pytest.raises(UserError, match="refused"):
        next(iterator)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "divide evenly"),
        ({"rows": 3, "num_hosts": 2}, "divide evenly"),
        ({"host": 1}, "host 1 of 1"),
        ({"rows": 1000}, "wanted fewer rows"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        pipeline(**changes)


def test_a_negative_step_is_refused():
    with pytest.raises(UserError, match="step must be >= 0, got -1"):
        pipeline().batch(-1)


@pytest.mark.parametrize("packed", [True, False])
def test_evaluation_reads_every_example_once_in_batches_of_one_shape(packed):
    batches = in_order(EXAMPLES, width=32, rows=4, packed=packed)
    assert {batch.tokens.shape for batch in batches} == {(4, 32)}
    total = Counter()
    for batch in batches:
        total.update(counts(batch))
    assert total["examples"] == len(EXAMPLES)
    assert total["tokens"] == sum(len(example.tokens) for example in EXAMPLES)
    assert total["targets"] == sum(len(e.tokens) - e.prompt_length for e in EXAMPLES)


def test_permutations_are_fixed_forever():
    assert permutation(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert sorted(permutation(3, 1, 100).tolist()) == list(range(100))


def test_the_order_needs_neither_jax_nor_grain():
    code = (
        "import sys, jaxablate.data.pipeline, jaxablate.data.sft, jaxablate.data.duplicates; "
        "assert not {'jax', 'grain'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
