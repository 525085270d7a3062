"""Instruments are asked like any task; parts of a prompt reach the mask in scoring and training."""

from itertools import pairwise

import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.batch import collate
from jaxablate.data.sft_config import DataConfig, load_examples
from jaxablate.data.synthetic.instrument import INSTRUMENTS
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.engine.layout import Question
from jaxablate.engine.score import Scorer
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.encode import EncodeRule, encode_items
from jaxablate.evaluation.prepare import prepare
from jaxablate.evaluation.task import Item
from jaxablate.masks.parse import parse
from tests.data.tokens import save
from tests.engine.models import random_model
from tests.evaluation.fake import fake_lm

# What a reader of parts 1 and 2 may carry over, nothing else: the mask of `compress`.
THROUGH_SLOTS = "gist_parts"
CUT_OFF = f"{THROUGH_SLOTS} & ~(to_part(2) & ~from_part(1) & ~from_part(2))"


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    few = {name: INSTRUMENTS.get(name)._replace(size=5) for name in INSTRUMENTS.names()}
    monkeypatch.setattr(INSTRUMENTS, "_things", few)


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return fake_lm(tmp_path_factory.mktemp("lm") / "tokenizer")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.load(save(tmp_path_factory.mktemp("tokenizer")))


@pytest.mark.parametrize("data", ["samples", "hub", "/no/such/folder"])
def test_rows_are_made_whatever_the_data(lm, data):
    config = EvalConfig(checkpoint="x", tasks=("clubs", "compress_2"), data=data, limit=2)
    clubs, compress = prepare(lm, config)
    assert [item.id for item in clubs.encoded.items] == ["validation/0", "validation/1"]
    assert (clubs.data["origin"], clubs.data["licence"]) == ("made by jaxablate", "Apache-2.0")
    assert (clubs.data["rows"], clubs.data["rows_in_split"]) == (2, 5)
    assert all(len(question.part_starts) == 2 for question in compress.encoded.questions)


def rule(tokenizer, **settings):
    words = {"variant": "standard", "bos": "no", "boundary": "count", "max_length": 64, **settings}
    return EncodeRule.of(tokenizer, **words)


@pytest.mark.parametrize(
    ("settings", "shift"),
    [({}, 0), ({"bos": "yes"}, 1), ({"boundary": "offset"}, 0), ({"variant": "compat"}, 0)],
)
def test_parts_begin_at_the_tokens_of_their_first_characters(tokenizer, settings, shift):
    texts = ("the cat sat.", " a roof", ". The answer:")
    cuts = (len(texts[0]), len(texts[0] + texts[1]))
    context = "".join(texts)
    item = Item((context,) * 2, (" first", " mat"), ("first", "mat"), 0, cuts, id="v/0")
    (question,) = encode_items([item], tokenizer, rule(tokenizer, **settings)).questions
    starts = [shift, *question.part_starts, len(question.prompt)]
    ids = [question.prompt[a:b] for a, b in pairwise(starts)]
    assert tuple(tokenizer.decode(list(part)) for part in ids) == texts


def test_a_prompt_that_is_cut_keeps_the_numbers_of_its_parts(tokenizer):
    context = "the cat sat on the mat. a roof"
    item = Item((context,), (" first",), ("first",), 0, (23,), id="v/0")
    whole = encode_items([item], tokenizer, rule(tokenizer)).questions[0]
    for length in range(2, len(whole.prompt)):
        cut = encode_items([item], tokenizer, rule(tokenizer, max_length=length)).questions[0]
        lost = len(whole.prompt) - len(cut.prompt)
        assert cut.part_starts == (max(whole.part_starts[0] - lost, 0),)


def test_where_the_parts_begin_is_part_of_an_items_identity(tokenizer):
    digests = {
        encode_items(
            [Item(("the cat sat",), (" on",), ("on",), 0, parts, id="v/0")],
            tokenizer,
            rule(tokenizer),
        ).digests
        for parts in ((), (3,), (7,))
    }
    assert len(digests) == 3


def scored(lm, prompt, mask, starts=(6, 8)):
    scorer = Scorer(lm, parse(mask))
    question = Question(prompt, ((11, 12), (13,)), starts)
    ((_, found),) = scorer.stream(scorer.plan([question]))
    return [pair.token_logprobs for pair in found[0]]


def test_under_the_mask_of_compress_part_1_reaches_the_answer_through_the_slots_only():
    lm = random_model()
    prompt = (21, 22, 23, 24, 25, 26, 31, 32, 41, 42)
    flipped = (21, 77, *prompt[2:])
    for mask, reaches in (("causal", True), (THROUGH_SLOTS, True), (CUT_OFF, False)):
        before, after = scored(lm, prompt, mask), scored(lm, flipped, mask)
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert same != reaches
    # With the slots read before part 1 has passed, they have nothing to carry.
    blind = f"{THROUGH_SLOTS} & ~(to_part(1) & from_part(2))"
    for one, two in zip(scored(lm, prompt, blind), scored(lm, flipped, blind), strict=True):
        np.testing.assert_array_equal(one, two)


def test_open_parts_differ_from_an_open_prompt():
    lm = random_model()
    prompt = (21, 22, 23, 24, 25, 26, 31, 32, 41, 42)
    whole = scored(lm, prompt, "prefix_lm")
    parts = scored(lm, prompt, "segment_bidirectional")
    one_part = scored(lm, prompt, "segment_bidirectional", starts=())
    np.testing.assert_array_equal(one_part[0], whole[0])
    assert not np.allclose(parts[0], whole[0])


@pytest.mark.parametrize("name", ["recall_mcq", "clubs", "parts", "compress"])
def test_finetuning_reads_what_the_task_asks(lm, name):
    limits = {"train_records": 5, "eval_records": 3}
    data = DataConfig(folder="instruments", name=name, format="raw", max_length=512, **limits)
    found = load_examples(data, lm.tokenizer)
    (task,) = prepare(lm, EvalConfig(checkpoint="x", tasks=(name,), data="samples", limit=3))
    assert (len(found.train), len(found.held_out)) == (5, 3)
    for example, question, item in zip(
        found.held_out, task.encoded.questions, task.encoded.items, strict=True
    ):
        answer = question.continuations[item.label]
        end = lm.tokenizer.eos_id
        assert tuple(example.tokens.tolist()) == (*question.prompt, *answer, end)
        assert example.prompt_length == len(question.prompt)
        assert example.part_starts == question.part_starts
    assert found.facts["near_duplicates"]["near_duplicates"] == 0
    assert found.facts["licence"] == "Apache-2.0"
    other = load_examples(DataConfig(**{**vars(data), "seed": 1}), lm.tokenizer)
    assert found.train[0].tokens.tolist() != other.train[0].tokens.tolist()
    assert found.held_out[0].tokens.tolist() == other.held_out[0].tokens.tolist()


def test_a_training_batch_numbers_the_parts(lm):
    config = DataConfig(
        folder="instruments", name="compress", format="raw", train_records=1, eval_records=1
    )
    (example,) = load_examples(config, lm.tokenizer).train
    part = collate([[example]], 256).slots.part[0]
    second, third = example.part_starts
    assert part[:second].tolist() == [1] * second
    assert set(part[second:third].tolist()) == {2}
    assert set(part[third : example.prompt_length].tolist()) == {3}
    assert not part[example.prompt_length :].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "null_mcq"}, "unknown instrument to learn from 'null_mcq'"),
        ({"name": "club"}, "did you mean 'clubs'"),
        ({"name": "clubs", "format": "plain"}, "need format 'raw', got 'plain'"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        DataConfig(**{"folder": "instruments", "format": "raw", **settings})
