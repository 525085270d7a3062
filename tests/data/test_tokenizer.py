"""Ids equal transformers' for the same folder; BOS, offsets and special ids follow the files."""

import json
import logging

import pytest

from jaxablate.core.errors import UserError
from jaxablate.data.tokenizer import Tokenizer
from tests.data import tokens

TEXTS = ["the cat sat", " on the roof.", "né à 日本 \U0001f600 x", "", "two\n lines ", "  spaces  "]


def loaded(folder, **settings):
    return Tokenizer.load(tokens.save(folder, **settings))


@pytest.mark.parametrize("make", [tokens.byte_bpe, tokens.metaspace])
@pytest.mark.parametrize("template", [False, True])
def test_ids_equal_transformers(tmp_path, make, template):
    transformers = pytest.importorskip("transformers")
    ours = loaded(tmp_path, core=make(), template=template)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
        default = theirs.encode(text)
        assert ours.encode(text, add_bos=ours.adds_bos) == default
        assert ours.decode(default) == theirs.decode(default, skip_special_tokens=True)
    assert ours.encode_batch(TEXTS) == [ours.encode(text) for text in TEXTS]
    assert (ours.bos_id, ours.prefix_id) == (theirs.bos_token_id, theirs.bos_token_id)
    assert ours.pad_id == theirs.pad_token_id
    assert ours.eos_ids == (theirs.eos_token_id,)
    assert ours.vocab_size == len(theirs)


@pytest.mark.parametrize(
    ("template", "config", "adds"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"add_bos_token": False}, True),
        (False, {"add_bos_token": True}, False),
    ],
)
def test_adds_bos_is_what_transformers_does(tmp_path, template, config, adds):
    transformers = pytest.importorskip("transformers")
    ours = loaded(tmp_path, template=template, **config)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours.adds_bos is adds
    assert (theirs.encode("the cat")[0] == theirs.bos_token_id) is adds


def test_bos_is_added_when_asked_and_never_doubled(tmp_path, caplog):
    tokenizer = loaded(tmp_path)
    assert tokenizer.encode("the cat", add_bos=True) == [1, *tokenizer.encode("the cat")]
    with caplog.at_level(logging.WARNING):
        written = tokenizer.encode("<s>the cat", add_bos=True)
    assert written == tokenizer.encode("the cat", add_bos=True)
    assert "begins with BOS already" in caplog.text


def test_no_bos_in_the_tokenizer_means_none_even_if_the_model_has_an_id(tmp_path):
    folder = tokens.save(tmp_path, bos=None)
    (folder / "config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.bos_id is None
    assert tokenizer.prefix_id == 2
    with pytest.raises(UserError, match="has no BOS token"):
        tokenizer.encode("the", add_bos=True)


def test_model_files_speak_where_the_tokenizer_has_none(tmp_path):
    folder = tokens.save(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    text = {"text_config": {"bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0}}
    (folder / "config.json").write_text(json.dumps(text))
    assert Tokenizer.load(folder).eos_ids == (7,)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id) == (1, (5, 6), 0)


def test_special_tokens_map_is_read_and_tokenizer_config_wins(tmp_path):
    folder = tokens.save(tmp_path)
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "</s>"}, "eos_token": "</s>"})
    )
    assert Tokenizer.load(folder).bos_id == 1
    (folder / "tokenizer_config.json").unlink()
    assert Tokenizer.load(folder).bos_id == 2


@pytest.mark.parametrize("make", [tokens.byte_bpe, tokens.metaspace])
def test_offsets_count_characters(tmp_path, make):
    tokenizer = loaded(tmp_path, core=make())
    text = "né the 日本 cat \U0001f600 sat"
    ids, offsets = tokenizer.encode_offsets(text)
    assert ids == tokenizer.encode(text)
    at = text.index("sat")
    tail = [i for i, (start, end) in enumerate(offsets) if end > at]
    assert "".join(text[slice(*offsets[i])] for i in tail).strip() == "sat"


def test_a_pair_is_cut_where_the_characters_of_the_continuation_begin(tmp_path):
    tokenizer = loaded(tmp_path)
    prompt, continuation = tokenizer.encode_pair("né the cat", " sat on")
    assert tokenizer.decode(prompt) == "né the cat"
    assert tokenizer.decode(continuation) == " sat on"


def test_a_token_across_the_border_belongs_to_the_continuation(tmp_path):
    tokenizer = loaded(tmp_path)
    prompt, continuation = tokenizer.encode_pair("the ", "cat")
    assert tokenizer.decode(prompt) == "the"
    assert tokenizer.decode(continuation) == " cat"


def test_an_empty_prompt_becomes_the_prefix_token(tmp_path):
    tokenizer = loaded(tmp_path)
    assert tokenizer.encode_pair("", "the cat")[0] == (1,)


def test_saved_padding_and_truncation_are_ignored(tmp_path):
    core = tokens.byte_bpe()
    core.enable_padding(length=16)
    core.enable_truncation(2)
    assert loaded(tmp_path, core=core).encode("the cat") == Tokenizer.load(
        tokens.save(tmp_path / "plain")
    ).encode("the cat")


def test_digest_changes_with_vocabulary_and_special_tokens(tmp_path):
    digests = [
        loaded(tmp_path / "a").digest,
        loaded(tmp_path / "b", core=tokens.byte_bpe(300)).digest,
        loaded(tmp_path / "c", bos=None).digest,
    ]
    assert len(set(digests)) == 3
    assert loaded(tmp_path / "d").digest == digests[0]


def test_files_are_those_that_exist(tmp_path):
    folder = tokens.save(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    names = [path.name for path in Tokenizer.load(folder).files]
    assert names == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "not readable as JSON"),
        ("version https://git-lfs.github.com/spec/v1", "not readable as JSON"),
        ("[]", "not a tokenizer.json"),
        ("{}", "not a tokenizer.json"),
        ('{"model": {"type": "BPE"}}', "not a usable tokenizer"),
        ('{"version": "1.0", "model": {"type": "Future", "vocab": {}}}', "not a usable tokenizer"),
    ],
)
def test_a_broken_tokenizer_is_a_user_error_that_names_the_file(tmp_path, content, message):
    folder = tokens.save(tmp_path)
    if content is None:
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.load(folder)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("tokenizer_config.json", {"bos_token": "<nowhere>"}, "not in tokenizer.json"),
        ("tokenizer_config.json", [1], "wanted a table"),
        ("generation_config.json", {"eos_token_id": "two"}, "must be an integer"),
    ],
)
def test_broken_companions_are_user_errors(tmp_path, name, table, message):
    folder = tokens.save(tmp_path)
    (folder / name).write_text(json.dumps(table))
    with pytest.raises(UserError, match=message):
        Tokenizer.load(folder)
