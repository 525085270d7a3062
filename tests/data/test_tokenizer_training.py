"""Trained tokenizers: the same bytes for the same text, and the same ids as transformers'."""

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.chat import ChatTemplate
from jaxablate.data.document import Document
from jaxablate.data.records import Record
from jaxablate.data.text_config import TokenizerConfig
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.data.tokenizer_training import copy_tokenizer, sample, train_tokenizer
from tests.data import tokens

TEXTS = [*tokens.SENTENCES, "It's 1984, isn't it?\n\nHe'll say: caf\u00e9 costs 12.50!"] * 4
STYLES = ["tekken", "qwen"]


def trained(folder, style):
    folder.mkdir(exist_ok=True)
    train_tokenizer(TEXTS, TokenizerConfig(style=style, vocab_size=360), folder)
    return Tokenizer.load(folder)


@pytest.mark.parametrize("style", STYLES)
def test_transformers_reads_it_and_gives_the_same_ids(tmp_path, style):
    transformers = pytest.importorskip("transformers")
    ours = trained(tmp_path, style)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "e\u0301 \U0001f600", "  two\n\n lines "]:
        assert ours.encode(text) == theirs.encode(text)
        wanted = text.replace("e\u0301", "\u00e9") if style == "qwen" else text
        assert ours.decode(ours.encode(text)) == wanted
    assert ours.vocab_size == len(theirs) == 360
    assert (ours.bos_id, ours.pad_id) == (theirs.bos_token_id, theirs.pad_token_id)
    assert ours.eos_ids == (theirs.eos_token_id,)
    assert not ours.adds_bos
    turns = [{"role": "user", "content": "Hi?"}]
    asked = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    record = Record("a", "Hi?", "", "Ho.")
    assert ChatTemplate.load(tmp_path).render(record) == (asked, "Ho.")


@pytest.mark.parametrize("style", STYLES)
def test_digits_stand_alone(tmp_path, style):
    tokenizer = trained(tmp_path, style)
    assert [tokenizer.decode([i]) for i in tokenizer.encode("1984")] == ["1", "9", "8", "4"]


@pytest.mark.parametrize("style", STYLES)
def test_the_same_text_gives_the_same_bytes(tmp_path, style):
    trained(tmp_path / "a", style)
    trained(tmp_path / "b", style)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_styles_split_capitals_differently(tmp_path):
    tekken, qwen = (trained(tmp_path / style, style) for style in STYLES)
    words = [core._core.pre_tokenizer.pre_tokenize_str("theCat's") for core in (tekken, qwen)]
    assert [[word for word, _ in found] for found in words] == [
        ["the", "Cat", "'s"],
        ["theCat", "'s"],
    ]


def test_a_sample_shares_evenly_and_does_not_depend_on_the_order():
    large = [Document(f"a/{i}", "a" * 30_000) for i in range(100)]
    other = [Document(f"b/{i}", "b" * 30_000) for i in range(100)]
    small = [Document("c/0", "c" * 50_000)]
    found = sample([large, small, other], megabytes=1, seed=0)
    sizes = {letter: sum(text.count(letter) for text in found) for letter in "abc"}
    assert sizes["c"] == 50_000
    assert abs(sizes["a"] - 475_000) <= 30_000
    assert abs(sizes["b"] - 475_000) <= 30_000
    numbered = [Document(f"a/{i}", str(i) * 30_000) for i in range(100)]
    first = sample([numbered], megabytes=1, seed=0)
    assert first == sample([numbered[::-1]], megabytes=1, seed=0)
    assert first != sample([numbered], megabytes=1, seed=1)


def test_a_long_document_gives_pieces_of_every_part():
    text = "".join(f"line {i}\n" for i in range(300_000))
    found = sample([[Document("a", text)]], megabytes=1, seed=0)
    places = [text.index(piece) / len(text) for piece in found]
    assert min(places) < 0.2 < 0.8 < max(places)
    whole = sample([[Document("a", text)]], megabytes=10, seed=0)
    assert sorted("".join(whole).split("\n")) == sorted(text.split("\n"))


def test_a_tokenizer_without_eos_is_not_taken(tmp_path):
    folder = tokens.save(tmp_path / "a", eos_token=None)
    with pytest.raises(UserError, match="documents end with EOS"):
        copy_tokenizer(folder, tmp_path)
