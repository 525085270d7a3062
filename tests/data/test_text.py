"""Text is prepared once, whole or not at all, the same whatever the number of processes."""

import dataclasses
import hashlib
import json
import lzma

import numpy as np
import pytest

from jaxablate.core.errors import Stopped, UserError
from jaxablate.data import encoding, text
from jaxablate.data.pipeline import Pipeline
from jaxablate.data.text import load_text, prepare_text
from jaxablate.data.text_config import ProtectConfig, SourceConfig, TextConfig, TokenizerConfig
from jaxablate.data.tokenizer import Tokenizer

TOKENIZER = TokenizerConfig(vocab_size=400, train_megabytes=1)
GOAL = "when boiling the butter until it is quite ready in a small pot you can"


def rows(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = "".join(json.dumps(row) + "\n" for row in table).encode()
    path.write_bytes(lzma.compress(raw) if path.suffix == ".xz" else raw)


def book(number):
    words = [
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "ran",
        "on",
        "under",
        "mat",
        "tree",
        "and",
        "then",
        "it",
        "was",
        "not",
        "red",
    ]
    rng = np.random.default_rng(number)
    lines = [" ".join(rng.choice(words, 30)) + "." for _ in range(12)]
    return "\n\n".join(lines)


@pytest.fixture
def corpus(tmp_path):
    return made(tmp_path)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A config and a folder with its text, to be read only."""
    folder = tmp_path_factory.mktemp("ready")
    config = made(folder)
    return config, prepared(config, folder / "run")


def made(tmp_path):
    rows(
        tmp_path / "books" / "a.jsonl.xz",
        [{"source": f"shelf/{i}", "text": book(i)} for i in range(40)],
    )
    goals = [
        {"goal": f"Open jar {i}", "sol1": "twist the lid", "sol2": "eat it", "label": i % 2}
        for i in range(60)
    ]
    rows(tmp_path / "tasks" / "piqa" / "train.jsonl", goals)
    validation = [{"goal": GOAL, "sol1": "pour it", "sol2": "throw it", "label": 0}]
    rows(tmp_path / "tasks" / "piqa" / "validation.jsonl", validation)
    books = SourceConfig(
        kind="files", name="books", paths=(f"{tmp_path}/books/*.xz",), id_field="source"
    )
    piqa = SourceConfig(kind="task", name="piqa", folder=f"{tmp_path}/tasks", repeat=2)
    protect = ProtectConfig(folder=f"{tmp_path}/tasks", tasks=("piqa",))
    return TextConfig(sources=(books, piqa), max_length=64, held_out_share=0.1, protect=protect)


def prepared(config, folder, **settings):
    folder.mkdir(exist_ok=True)
    prepare_text(config, TOKENIZER, folder, processes=1, **settings)
    return folder


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_every_token_but_a_documents_first_is_a_target_once(ready):
    corpus, folder = ready
    data = load_text(folder, dataclasses.replace(corpus, held_out_share=0.0))
    tokenizer = Tokenizer.load(folder)
    one = [example for example in data.train if example.id.startswith("books/shelf/7#")]
    assert [example.id for example in one] == [f"books/shelf/7#{i}" for i in range(len(one))]
    assert len(one) > 3
    assert all(example.prompt_length == 1 and len(example.tokens) >= 2 for example in one)
    assert max(len(example.tokens) for example in one) == 64
    joined = [*one[0].tokens, *(token for example in one[1:] for token in example.tokens[1:])]
    assert joined[-1] == tokenizer.eos_id
    assert tokenizer.decode([int(token) for token in joined[:-1]]) == book(7)


def test_examples_are_views_and_train(ready):
    corpus, folder = ready
    data = load_text(folder, corpus)
    assert not data.train[0].tokens.flags.owndata
    batch = Pipeline(data.train, width=64, rows=4, seed=0).batch(0)
    assert batch.tokens.dtype == np.int32
    assert batch.loss_mask.sum() > 0


def test_a_piqa_row_reads_as_evaluation_asks_it(ready):
    corpus, folder = ready
    data = load_text(folder, corpus)
    texts = {e.id: e.tokens.tolist() for e in (*data.train, *data.held_out)}
    wanted = "Question: Open jar 3\nAnswer: eat it</s>"
    assert Tokenizer.load(folder).decode(texts["piqa/3#0"], skip_special=False) == wanted


def test_read_only_characters_are_prompt(tmp_path, monkeypatch):
    from jaxablate.data import synthetic
    from jaxablate.data.document import Document

    def stub(name, *, count, seed):
        for i in range(count):
            yield Document(str(i), "one two three four five six seven", 18)

    monkeypatch.setattr(synthetic, "documents", stub)
    source = SourceConfig(kind="synthetic", name="lists", documents=3)
    config = TextConfig(sources=(source,), held_out_share=0.0)
    folder = prepared(config, tmp_path / "run")
    data = load_text(folder, config)
    example = data.train[0]
    read = example.tokens[: example.prompt_length].tolist()
    assert Tokenizer.load(folder).decode(read) == "one two three four"
    short = load_text(folder, dataclasses.replace(config, max_length=example.prompt_length))
    # The first piece of each document has nothing to learn.
    assert {e.id for e in short.train} == {f"lists/{i}#{n}" for i in range(3) for n in (1, 2)}


def test_repeat_is_copies_in_an_epoch_of_what_is_not_held_out(ready):
    corpus, folder = ready
    data = load_text(folder, corpus)
    ids = [example.id for example in data.train if example.id.startswith("piqa/")]
    held_out = {example.id for example in data.held_out}
    assert len(ids) == 2 * len(set(ids))
    assert not held_out & set(ids)
    assert data.facts["sources"]["piqa"]["repeat"] == 2


def test_the_same_config_and_texts_give_the_same_bytes_in_any_number_of_processes(
    corpus, tmp_path, monkeypatch
):
    one = prepared(corpus, tmp_path / "one")
    monkeypatch.setattr(encoding, "SMALL_CHARACTERS", 1)
    monkeypatch.setattr(encoding, "_BATCH_CHARACTERS", 4000)
    two = tmp_path / "two"
    prepare_text(corpus, TOKENIZER, two, processes=2)
    assert digests(one) == digests(two)
    assert {"tokenizer.json", "text/piqa.tokens.npy"} < set(digests(one))


def test_a_second_call_does_nothing_even_without_the_texts(corpus, tmp_path):
    folder = prepared(corpus, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    (tmp_path / "books" / "a.jsonl.xz").unlink()
    prepared(corpus, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_is_done_stays_after_an_interruption(corpus, tmp_path, monkeypatch):
    whole = prepared(corpus, tmp_path / "whole")
    write, calls = text.write_source, []

    def stop(folder, source, *rest):
        calls.append(source.key)
        if source.key == "piqa" and calls.count("piqa") == 1:
            raise Stopped
        return write(folder, source, *rest)

    monkeypatch.setattr(text, "write_source", stop)
    with pytest.raises(Stopped):
        prepared(corpus, tmp_path / "run")
    with pytest.raises(UserError, match="not finished"):
        load_text(tmp_path / "run", corpus)
    prepared(corpus, tmp_path / "run")
    assert calls == ["books", "piqa", "piqa"]
    assert digests(tmp_path / "run") == digests(whole)


def test_a_damaged_file_is_an_error(corpus, tmp_path):
    folder = prepared(corpus, tmp_path / "run")
    path = folder / "text" / "books.tokens.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    for call in (lambda: load_text(folder, corpus), lambda: prepared(corpus, folder)):
        with pytest.raises(UserError, match=r"books\.tokens\.npy: damaged"):
            call()


def test_text_of_another_config_is_an_error(ready):
    corpus, folder = ready
    other = dataclasses.replace(corpus, protect=ProtectConfig())
    with pytest.raises(UserError, match="another config"):
        prepared(other, folder)
    with pytest.raises(UserError, match="another config"):
        load_text(folder, other)
    with pytest.raises(UserError, match=r"another config \(tokenizer.vocab_size: 400 -> 500\)"):
        prepare_text(corpus, TokenizerConfig(vocab_size=500, train_megabytes=1), folder)


def test_another_source_leaves_the_held_out_choice(ready, tmp_path):
    corpus, folder = ready
    both = load_text(folder, corpus)
    alone = dataclasses.replace(corpus, sources=corpus.sources[1:])
    one = load_text(prepared(alone, tmp_path / "one"), alone)
    chosen = [{e.id for e in data.held_out if e.id.startswith("piqa/")} for data in (both, one)]
    assert chosen[0] == chosen[1] != set()


def test_a_held_out_source_is_never_learned(corpus, tmp_path):
    books, piqa = corpus.sources
    config = dataclasses.replace(
        corpus, sources=(books, dataclasses.replace(piqa, held_out=True)), held_out_share=0.0
    )
    data = load_text(prepared(config, tmp_path / "run"), config)
    assert {example.id.partition("/")[0] for example in data.train} == {"books"}
    assert len(data.held_out) == 60


def test_the_manifest_names_what_was_cut(corpus, tmp_path):
    table = [{"source": f"shelf/{i}", "text": book(i)} for i in range(40)]
    table[5]["text"] = f"{book(5)}\n\nHe said: {GOAL.title()}!\n\nThe end."
    rows(tmp_path / "books" / "a.jsonl.xz", table)
    folder = prepared(corpus, tmp_path / "run")
    found = json.loads((folder / "text" / "manifest.json").read_text())["sources"]["books"]
    (hit,) = found["decontamination"]["found"]
    assert (hit["document"], hit["paragraph"], hit["task"], hit["row"]) == (
        "shelf/5",
        12,
        "piqa",
        0,
    )
    everything = load_text(folder, dataclasses.replace(corpus, held_out_share=0.0, max_length=4096))
    tokens = next(e.tokens for e in everything.train if e.id == "books/shelf/5#0")
    decoded = Tokenizer.load(folder).decode(tokens.tolist())
    assert decoded == f"{book(5)}\n\nThe end."


def test_special_tokens_in_a_text_are_text(tmp_path):
    (tmp_path / "a.txt").write_text("a cat </s> [INST] sat. " * 20)
    source = SourceConfig(kind="files", name="a", paths=(str(tmp_path / "a.txt"),))
    config = TextConfig(sources=(source,), held_out_share=0.0)
    folder = prepared(config, tmp_path / "run")
    tokens = load_text(folder, config).train[0].tokens.tolist()
    assert tokens.count(Tokenizer.load(folder).eos_id) == 1
    assert min(tokens[:-1]) > 7


def test_a_share_that_holds_nothing_out_is_an_error(ready):
    corpus, folder = ready
    with pytest.raises(UserError, match="no document of 100 is held out"):
        load_text(folder, dataclasses.replace(corpus, held_out_share=1e-9))


def test_a_checkpoints_tokenizer_is_not_replaced(corpus, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is a checkpoint already"):
        prepared(corpus, folder)


def test_an_existing_tokenizer_is_taken(ready, tmp_path):
    corpus, first = ready
    second = tmp_path / "second"
    prepare_text(corpus, TokenizerConfig(path=str(first)), second, processes=1)
    assert Tokenizer.load(second).digest == Tokenizer.load(first).digest
