"""Pairs become the ids that the harness would score; shared prompts are found and kept apart."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.evaluation.encode import EncodeRule, encode_items, encode_pairs
from jaxablate.evaluation.task import Item
from tests.data import tokens
from tests.evaluation.harness import quiet

WORDS = ["the", " the", "cat ", " cat", "né", " 日本", "\n", "  ", "Sarah", ".", "<s>", "q\t"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=6).map("".join)


def rule(variant="standard", *, bos=False, boundary="count", max_length=100):
    return EncodeRule(variant=variant, bos=bos, boundary=boundary, max_length=max_length)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tokens.save(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.load(folder)


def item(contexts, continuations, label=0):
    answers = tuple(text.strip() for text in continuations)
    return Item(tuple(contexts), tuple(continuations), answers, label, id="validation/0")


def one(tokenizer, context, continuation, rule_):
    (pair,) = encode_pairs([(context, continuation)], tokenizer, rule_)
    return pair


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "bos"])
def harness_model(request, tmp_path_factory):
    """The harness' own pair encoding over transformers' tokenizer, without a model."""
    pytest.importorskip("lm_eval")
    transformers = pytest.importorskip("transformers")
    folder = tokens.save(tmp_path_factory.mktemp("tokenizer"), template=request.param)
    with quiet():
        from lm_eval.models.huggingface import HFLM

        class Encoder(HFLM):
            def __init__(self):
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
                self.backend = "causal"
                self.add_bos_token = None
                self.custom_prefix_token_id = None
                self.enable_thinking = False

            def _loglikelihood_tokens(self, requests, **settings):
                return [(context, continuation) for _, context, continuation in requests]

        return folder, Encoder()


class Request:
    def __init__(self, *args):
        self.args = args


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS.filter(bool)), min_size=1, max_size=8))
@example([("the c", "at sat"), ("the ", "cat"), ("the", "re")])  # tokens across the border
def test_standard_pairs_are_the_ids_of_the_harness(harness_model, pairs):
    # The harness itself fails on a context of spaces alone.
    pairs = [(c, t) for c, t in pairs if not c or c.strip()]
    folder, model = harness_model
    ours = Tokenizer.load(folder)
    encoding = EncodeRule.of(
        ours, variant="standard", bos="auto", boundary="count", max_length=10_000
    )
    theirs = model.loglikelihood([Request(*pair) for pair in pairs], disable_tqdm=True)
    for got, wanted in zip(encode_pairs(pairs, ours, encoding), theirs, strict=True):
        assert ([*got.prompt], [*got.continuation]) == wanted


def test_bos_policy_follows_the_tokenizer_or_the_word(tmp_path):
    plain = Tokenizer.load(tokens.save(tmp_path / "plain"))
    adds = Tokenizer.load(tokens.save(tmp_path / "adds", template=True))
    none = Tokenizer.load(tokens.save(tmp_path / "none", bos=None))

    def bos(tokenizer, word, variant="standard"):
        made = EncodeRule.of(tokenizer, variant=variant, bos=word, boundary="count", max_length=100)
        return made.bos

    assert [bos(plain, word) for word in ("auto", "yes", "no")] == [False, True, False]
    assert [bos(adds, word) for word in ("auto", "yes", "no")] == [True, True, False]
    assert [bos(adds, word, "compat") for word in ("auto", "yes")] == [False, True]
    with pytest.raises(UserError, match="has no BOS token"):
        bos(none, "yes")
    with pytest.raises(UserError, match="unknown bos policy 'maybe'"):
        bos(plain, "maybe")


def test_trailing_space_of_the_context_moves_over_in_standard_only(tokenizer):
    standard = one(tokenizer, "the ", "cat", rule())
    assert tokenizer.decode(standard.continuation) == " cat"
    assert not standard.mismatch
    compat = one(tokenizer, "the ", "cat", rule("compat"))
    # The space is a token alone but joins "cat" in the whole text: nothing is left to score.
    assert compat.mismatch
    assert compat.continuation == ()


def test_compat_cuts_the_whole_text_by_the_count_of_the_context(tokenizer):
    context, continuation = "the ", "cat sat on"
    pair = one(tokenizer, context, continuation, rule("compat"))
    whole, before = tokenizer.encode(context + continuation), tokenizer.encode(context)
    assert [*pair.prompt, *pair.continuation] == whole
    assert len(pair.prompt) == len(before)
    assert tokenizer.decode(pair.prompt) == "the cat"


def test_offset_policy_scores_the_token_across_the_border(tokenizer):
    pair = one(tokenizer, "the ", "cat sat on", rule("compat", boundary="offset"))
    assert tokenizer.decode(pair.prompt) == "the"
    assert tokenizer.decode(pair.continuation) == " cat sat on"
    assert pair.mismatch


def test_policies_agree_where_no_token_spans_the_border(tokenizer):
    for variant in ("standard", "compat"):
        pairs = [
            one(tokenizer, "the cat", " sat on", rule(variant, boundary=boundary))
            for boundary in ("count", "offset")
        ]
        assert pairs[0] == pairs[1]
        assert not pairs[0].mismatch


def test_a_merge_across_the_border_is_counted(tokenizer):
    made = encode_items([item(["the c", "the cat"], ["at", " sat"])], tokenizer, rule())
    assert made.boundary_mismatches == 1


def test_an_empty_context_is_bos_or_eos_and_in_compat_the_first_token(tokenizer, tmp_path):
    ids = tuple(tokenizer.encode("the cat"))
    assert one(tokenizer, "", "the cat", rule()).prompt == (1,)
    compat = one(tokenizer, "", "the cat", rule("compat"))
    assert (compat.prompt, compat.continuation) == (ids[:1], ids[1:])
    with_bos = one(tokenizer, "", "the cat", rule("compat", bos=True))
    assert (with_bos.prompt, with_bos.continuation) == ((1,), ids)
    eos_only = Tokenizer.load(tokens.save(tmp_path / "eos", bos=None))
    assert one(eos_only, "", "the cat", rule()).prompt == (2,)


def test_an_empty_context_without_bos_and_eos_is_a_user_error(tmp_path):
    tokenizer = Tokenizer.load(tokens.save(tmp_path, bos=None, eos_token=None))
    with pytest.raises(UserError, match="neither BOS nor EOS"):
        one(tokenizer, "", "the cat", rule())


def test_truncation_keeps_the_end_and_the_whole_answer(tokenizer):
    long = one(tokenizer, "the cat " * 20 + "sat", " on the mat", rule(max_length=8))
    whole = one(tokenizer, "the cat " * 20 + "sat", " on the mat", rule())
    assert long.truncated
    assert not whole.truncated
    assert long.continuation == whole.continuation
    # The last token is a target only, so eight are read and nine kept.
    assert len(long.prompt) + len(long.continuation) == 9
    assert whole.prompt[-len(long.prompt) :] == long.prompt


def test_an_answer_longer_than_the_model_reads_is_a_user_error(tokenizer):
    made = item(["the"] * 2, [" cat", " cat" * 30])
    with pytest.raises(UserError, match=r"validation/0: an answer has .* reads at most 4"):
        encode_items([made], tokenizer, rule(max_length=4))


def test_choices_of_one_prompt_share_a_question_and_others_do_not(tokenizer):
    shared = item(["the cat"] * 3, [" sat", " on", " the mat"])
    apart = item(["the cat", "the man"], [" sat", " sat"])
    made = encode_items([shared, apart], tokenizer, rule())
    assert [len(question.continuations) for question in made.questions] == [3, 1, 1]
    spots = [[(place.question, place.continuation) for place in row] for row in made.places]
    assert spots == [[(0, 0), (0, 1), (0, 2)], [(1, 0), (2, 0)]]
    assert made.num_pairs == 5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(TEXTS, TEXTS), min_size=2, max_size=4), min_size=1, max_size=4),
    st.sampled_from(["standard", "compat"]),
    st.sampled_from(["count", "offset"]),
)
def test_every_choice_finds_its_own_ids_again(tokenizer, table, variant, boundary):
    items = [item(*zip(*choices, strict=True)) for choices in table]
    encoding = rule(variant, boundary=boundary)
    made = encode_items(items, tokenizer, encoding)
    for row, places in zip(items, made.places, strict=True):
        pairs = encode_pairs(
            list(zip(row.contexts, row.continuations, strict=True)), tokenizer, encoding
        )
        for pair, place in zip(pairs, places, strict=True):
            if place is None:
                assert pair.continuation == ()
                continue
            question = made.questions[place.question]
            assert question.prompt == pair.prompt
            assert question.continuations[place.continuation] == pair.continuation
    assert made.without_tokens == sum(place is None for row in made.places for place in row)


def test_the_digest_of_an_item_names_its_ids_and_nothing_else(tokenizer):
    first = item(["the cat"] * 2, [" sat", " on"])
    relabelled = item(["the cat"] * 2, [" sat", " on"], label=1)
    swapped = item(["the cat"] * 2, [" on", " sat"])
    digests = encode_items([first, relabelled, swapped], tokenizer, rule()).digests
    assert digests[0] == digests[1] != digests[2]
