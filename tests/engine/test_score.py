"""Scores under a mask: sharing, packing, padding, batches and order change nothing."""

import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.engine.layout import Question, make_shared, pack_rows
from jaxablate.engine.score import Scorer
from jaxablate.masks.leak import LeakError
from jaxablate.masks.parse import parse
from tests.engine.models import VOCAB, random_model

MASKS = ("causal", "prefix_lm", "gist", "sliding_window(5)", "prefix_lm & window(6)")
NO_WINDOWS = (None, None)  # of two layers


@pytest.fixture(scope="module")
def lm():
    return random_model(windows=NO_WINDOWS)


def make_questions(count=24, seed=0, prompt=(1, 30), continuation=(1, 12), choices=(2, 5)):
    random = np.random.default_rng(seed)

    def draw(low, high):
        return tuple(random.integers(0, VOCAB, random.integers(low, high)).tolist())

    return [
        Question(
            draw(*prompt), tuple(draw(*continuation) for _ in range(random.integers(*choices)))
        )
        for _ in range(count)
    ]


def scores(lm, questions, mask, **settings):
    scorer = Scorer(lm, parse(mask), **settings)
    found = {}
    for _, batch in scorer.stream(scorer.plan(questions)):
        found.update(batch)
    assert sorted(found) == list(range(len(questions)))
    return scorer, [found[index] for index in range(len(questions))]


def by_definition(lm, question, mask):
    """Each choice alone in one pass of the reference kernel; log-softmax in float64."""
    out = []
    for continuation in question.continuations:
        tokens = np.zeros((1, 48), np.int64)
        length, size = len(question.prompt + continuation), len(question.prompt)
        tokens[0, :length] = question.prompt + continuation
        logits = lm.logits(tokens, [length], mask, [size], kernel="reference")
        logits = np.asarray(logits[0], np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        out.append([logprobs[at - 1, tokens[0, at]] for at in range(size, length)])
    return out


@pytest.mark.parametrize(
    ("mask", "shared"),
    [*((mask, "auto") for mask in MASKS), ("causal", "never"), ("gist", "never")],
)
def test_every_token_equals_its_choice_scored_alone(lm, mask, shared):
    questions = make_questions(6)
    _, found = scores(lm, questions, mask, shared=shared)
    for question, pairs in zip(questions, found, strict=True):
        for pair, expected in zip(pairs, by_definition(lm, question, mask), strict=True):
            np.testing.assert_allclose(pair.token_logprobs, expected, atol=3e-5)
            assert pair.num_tokens == len(expected)
            assert pair.sum == pytest.approx(sum(expected), abs=2e-4)


def test_batch_size_row_length_padding_and_order_change_nothing(lm):
    questions, mask = make_questions(20), "prefix_lm"
    _, expected = scores(lm, questions, mask)
    for settings in (
        {"rows_per_batch": 1},
        {"row_length": 64, "rows_per_batch": 3},
        {"row_length": 512},
        {"shared": "never", "rows_per_batch": 2},
    ):
        _, found = scores(lm, questions, mask, **settings)
        assert_equal(found, expected)
    order = np.random.default_rng(1).permutation(len(questions))
    _, found = scores(lm, [questions[i] for i in order], mask)
    assert_equal(found, [expected[i] for i in order])


def assert_equal(found, expected):
    for left, right in zip(found, expected, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_allclose(a.token_logprobs, b.token_logprobs, atol=2e-5)
            assert a.is_greedy == b.is_greedy


def test_the_prompt_is_shared_exactly_where_the_mask_allows_it(lm):
    questions = make_questions(4)
    for mask in MASKS:
        assert scores(lm, questions, mask)[0].sharing == "shared"
    scorer, found = scores(lm, questions, "full_bidirectional", allow_leaky=True)
    assert scorer.sharing.startswith("apart")
    for question, pairs in zip(questions, found, strict=True):
        expected = by_definition(lm, question, "full_bidirectional")
        for pair, tokens in zip(pairs, expected, strict=True):
            np.testing.assert_allclose(pair.token_logprobs, tokens, atol=3e-5)


def test_one_prompt_among_many_that_sees_its_continuation_is_enough_to_keep_all_apart(lm):
    # Blocks of 8 positions: only a prompt that ends inside a block sees what follows.
    questions = [Question(tuple(range(8)), ((1, 2),)), Question(tuple(range(9)), ((1, 2),))]
    scorer = Scorer(lm, parse("causal | chunk(8)"), allow_leaky=True)
    scorer.plan(questions[:1])
    assert scorer.sharing == "shared"
    scorer.plan(questions)
    assert scorer.sharing.startswith("apart")


def test_an_answer_that_sees_itself_is_refused_with_its_path_and_stamped_when_forced(lm):
    questions = make_questions(3)
    with pytest.raises(LeakError, match="target"):
        Scorer(lm, parse("full_bidirectional")).plan(questions)
    scorer, _ = scores(lm, questions, "full_bidirectional", allow_leaky=True)
    description = scorer.description()
    assert description["leak"]["leaky"] is True
    assert description["allow_leaky"] is True
    assert scores(lm, questions, "causal")[0].description()["leak"]["leaky"] is False


def test_one_leaky_layer_is_enough(lm):
    with pytest.raises(LeakError):
        Scorer(lm, parse("causal | (same_segment & layers(1))")).plan(make_questions(2))


def test_layers_and_heads_can_differ(lm):
    mask = "causal | (within(prompt) & layers(0) & heads(0,3))"
    questions = make_questions(4)
    _, found = scores(lm, questions, mask)
    for question, pairs in zip(questions, found, strict=True):
        for pair, expected in zip(pairs, by_definition(lm, question, mask), strict=True):
            np.testing.assert_allclose(pair.token_logprobs, expected, atol=3e-5)
    assert np.abs(found[0][0].sum - scores(lm, questions, "causal")[1][0][0].sum) > 1e-3


@pytest.mark.parametrize("mask", ["causal", "prefix_lm & layers(0) | causal"])
def test_scanned_layers_give_the_same_scores(lm, mask):
    questions = make_questions(4)
    scanned = random_model(layout="scan", windows=NO_WINDOWS)
    assert_equal(scores(scanned, questions, mask)[1], scores(lm, questions, mask)[1])


def test_the_models_own_window_is_part_of_the_mask(lm):
    windowed = random_model(windows=(None, 4))
    questions = make_questions(4)
    _, found = scores(windowed, questions, "causal")
    _, dropped = scores(windowed, questions, "causal", window_policy="drop")
    _, whole = scores(lm, questions, "causal")
    assert_equal(dropped, whole)
    assert any(abs(a[0].sum - b[0].sum) > 1e-3 for a, b in zip(found, whole, strict=True))


def test_plans_are_equal_for_equal_questions_and_cover_each_question_once(lm):
    questions = make_questions(40)
    plans = [Scorer(lm, parse("causal"), rows_per_batch=2).plan(questions) for _ in range(2)]
    assert [b.digest for b in plans[0]] == [b.digest for b in plans[1]]
    covered = [q for batch in plans[0] for q in batch.questions]
    assert sorted(covered) == list(range(40))
    assert len(plans[0]) > 1


def test_packing_puts_every_block_in_one_row_and_fills_rows_well():
    blocks = [b for (b,) in make_shared(make_questions(400, prompt=(20, 60)), keep_last=False)]
    rows = pack_rows(blocks, 256)
    assert sorted(b.question for row in rows for b in row) == list(range(400))
    assert all(sum(b.length for b in row) <= 256 for row in rows)
    assert sum(b.length for b in blocks) / (256 * len(rows)) > 0.95


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (Question((), ((1,),)), "empty prompt"),
        (Question((1,), ((),)), "empty continuation"),
        (Question((1,), ((VOCAB,),)), str(VOCAB)),
    ],
)
def test_questions_that_cannot_be_scored_are_named(lm, question, word):
    with pytest.raises(UserError, match=word):
        Scorer(lm, parse("causal")).plan([Question((1,), ((2,),)), question])


def test_settings_out_of_range_are_named(lm):
    with pytest.raises(UserError, match="rows_per_batch must be >= 1, got 0"):
        Scorer(lm, parse("causal"), rows_per_batch=0)
    with pytest.raises(UserError, match="'always'"):
        Scorer(lm, parse("causal"), shared="always")
    with pytest.raises(UserError, match="empty list"):
        Scorer(lm, parse("causal")).plan([])


def test_a_weight_that_is_not_a_number_ends_the_scoring():
    import jax

    broken = random_model(windows=NO_WINDOWS)
    broken.params = jax.tree.map(lambda x: x * float("nan"), broken.params)
    with pytest.raises(UserError, match="not finite"):
        scores(broken, make_questions(2), "causal")


def test_the_description_follows_from_the_plan_and_names_kernel_and_device(lm):
    scorer = Scorer(lm, parse("prefix_lm"))
    batches = scorer.plan(make_questions(4))
    before = scorer.description()
    list(scorer.stream(batches))
    assert scorer.description() == before
    (choice,) = before["kernels"]["256"]
    assert choice["kernel"] == "xla"
    assert choice["declined"]["cudnn_dense"] == "needs an NVIDIA GPU, got cpu"
    assert before["devices"] == "8 x cpu"
