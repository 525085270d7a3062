"""A data config gives examples of both sides, and facts that say what was done to get them."""

import builtins
import json

import pytest

from jaxablate.core.config import build
from jaxablate.core.errors import UserError
from jaxablate.core.settings import Settings
from jaxablate.data.chat import ChatTemplate
from jaxablate.data.duplicates import near_duplicates
from jaxablate.data.pipeline import Pipeline
from jaxablate.data.records import read_rows
from jaxablate.data.sft_config import SAMPLES, DataConfig, check_data, load_examples
from jaxablate.data.splits import load_splits
from jaxablate.data.tokenizer import Tokenizer
from tests.data.test_chat import PLAIN
from tests.data.tokens import save

BUNDLED = DataConfig(folder="samples", name="instructions", max_length=256)
NO_SYSTEM = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system') }}{%- endif %}"
DIALOGUES = [
    {
        "messages": [
            {"role": "user", "content": f"the cat {n}"},
            {"role": "assistant", "content": f"sat {n}"},
            {"role": "user", "content": f"and the man {n}"},
            {"role": "assistant", "content": f"a roof {n}"},
        ]
    }
    for n in range(60)
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.load(save(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="module")
def chat_tokenizer(tmp_path_factory):
    template = NO_SYSTEM + PLAIN.replace("['user', 'assistant']", "['user', 'assistant', 'system']")
    return Tokenizer.load(save(tmp_path_factory.mktemp("chat"), chat_template=template))


def write(folder, rows, split="train"):
    (folder / "set").mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "set" / f"{split}.jsonl").write_text(text)
    return str(folder)


def test_the_bundled_set_is_sound(tokenizer):
    data = load_examples(BUNDLED, tokenizer)
    assert (len(data.train), len(data.held_out)) == (241, 24)
    for side in ("train", "held_out"):
        assert data.facts[side]["dropped"] == data.facts[side]["encoded"]["dropped"] == {}
        assert data.facts[side]["encoded"]["truncated"] == 0
    assert data.facts["near_duplicates"]["near_duplicates"] == 0
    assert data.facts["licence"] == "Apache-2.0"
    train, held_out = load_splits(SAMPLES, "instructions", seed=0)
    assert len({(r.instruction, r.input) for r in train.rows}) == 241
    assert all(len(" ".join(r[1:4]).split()) <= 60 for r in (*train.rows, *held_out.rows))


def test_its_rows_of_128_tokens_hold_every_record_of_the_tiny_model(tmp_path):
    from jaxablate.experiments.tiny import write_tiny_model

    write_tiny_model(tmp_path, seed=0)
    config = DataConfig(folder="samples", name="instructions", max_length=128)
    data = load_examples(config, Tokenizer.load(tmp_path))
    assert data.facts["train"]["encoded"]["truncated"] == 0
    assert Pipeline(data.train, width=128, rows=8, seed=0).steps_per_epoch > 10


def test_facts_are_plain_equal_every_time_and_without_a_path_of_the_machine(tmp_path, tokenizer):
    rows = [json.loads(x) for x in (SAMPLES / "instructions/train.jsonl").read_text().splitlines()]
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        write(folder, rows)
    config = {"name": "set", "max_length": 64, "train_records": 50, "eval_records": 3, "seed": 1}
    one, two = (
        load_examples(DataConfig(folder=str(f), **config), tokenizer) for f in (first, second)
    )
    assert json.loads(json.dumps(one.facts)) == one.facts == two.facts
    assert "/tmp" not in json.dumps(one.facts)
    train = one.facts["train"]
    assert train["records"] == 50
    assert train["found"] == 241 - 5
    assert train["origin"] == "set/train.jsonl (2% held out, seed 1)"
    encoded = train["encoded"]
    assert encoded["examples"] == len(one.train) == 50 - sum(encoded["dropped"].values())
    assert encoded["truncated"] > 0
    assert encoded["lengths"]["max"] == 64
    assert encoded["tokens"] == sum(len(example.tokens) for example in one.train)
    assert encoded["supervised"] == encoded["tokens"] - sum(e.prompt_length for e in one.train)


def test_other_choices_have_other_digests_and_the_sides_stay_apart(tmp_path, tokenizer):
    folder = write(tmp_path, [{"instruction": f"do {n}", "output": f"{n}"} for n in range(100)])
    seen = set()
    for settings in ({}, {"seed": 1}, {"train_records": 20}, {"train_records": 20, "seed": 1}):
        data = load_examples(DataConfig(folder=folder, name="set", **settings), tokenizer)
        ids = data.ids()
        assert not set(ids["train"]) & set(ids["held_out"])
        assert len(ids["train"]) == settings.get("train_records", 98)
        seen.add((data.facts["train"]["ids"], data.facts["train"]["digest"]))
    assert len(seen) == 4


def test_near_duplicates_are_counted_with_their_ids(tmp_path, tokenizer):
    write(tmp_path, [{"instruction": f"do {n}", "output": "x"} for n in range(9)])
    folder = write(
        tmp_path,
        [{"instruction": "Do, 3!", "output": "y"}, {"instruction": "new", "output": "z"}],
        "validation",
    )
    found = load_examples(DataConfig(folder=folder, name="set"), tokenizer).facts["near_duplicates"]
    assert (found["near_duplicates"], found["ids"]) == (1, ["validation:0"])


def test_the_same_last_question_after_other_turns_is_no_near_duplicate():
    def asked(first):
        turns = [("user", first), ("assistant", "Yes."), ("user", "Go on."), ("assistant", first)]
        row = {"messages": [{"role": role, "content": text} for role, text in turns]}
        return read_rows([row], "x", where="", origin="").rows

    assert near_duplicates(asked("About cats."), asked("About dogs."))["near_duplicates"] == 0
    assert near_duplicates(asked("About cats."), asked("about cats"))["near_duplicates"] == 1


def test_a_conversation_learns_its_last_answer_alone(tmp_path, chat_tokenizer):
    config = DataConfig(folder=write(tmp_path, DIALOGUES), name="set", format="chat")
    data = load_examples(config, chat_tokenizer)
    example = next(e for e in data.train if e.id == "train:7")
    text = chat_tokenizer.decode(example.tokens.tolist(), skip_special=False)
    assert text == (
        "<s><|user|>\nthe cat 7\n<|assistant|>\nsat 7</s>\n<|user|>\nand the man 7\n"
        "<|assistant|>\na roof 7</s>"
    )
    learned = example.tokens[example.prompt_length :].tolist()
    assert chat_tokenizer.decode(learned, skip_special=False) == "a roof 7</s>"


def test_nothing_of_an_answer_is_in_its_prompt(tmp_path, chat_tokenizer):
    render = ChatTemplate.load(chat_tokenizer.folder).render
    other = json.loads(json.dumps(DIALOGUES))
    for row in other:
        row["messages"][-1]["content"] = "\u2063answer\u2063 something else"
    first, second = (read_rows(r, "train", where="", origin="").rows for r in (DIALOGUES, other))
    assert [render(r)[0] for r in first] == [render(r)[0] for r in second]
    marked = "\u2063answer\u2063"
    prompt, answer = render(first[0]._replace(instruction=marked))
    assert prompt == render(first[0])[0].replace("and the man 0", marked)
    assert answer == "a roof 0"


def test_conversations_that_a_template_refuses_are_dropped_and_counted(tmp_path, chat_tokenizer):
    told = {"messages": [{"role": "system", "content": "x"}, *DIALOGUES[0]["messages"]]}
    write(tmp_path, DIALOGUES[:5], "validation")
    config = DataConfig(folder=write(tmp_path, [*DIALOGUES, told]), name="set", format="chat")
    encoded = load_examples(config, chat_tokenizer).facts["train"]["encoded"]
    assert encoded["dropped"] == {"the chat template refuses it (no system)": 1}
    assert encoded["examples"] == 60


def test_plain_headings_for_several_turns_and_chat_without_a_template_are_refused(
    tmp_path, tokenizer
):
    folder = write(tmp_path, DIALOGUES)
    with pytest.raises(UserError, match="several turns"):
        load_examples(DataConfig(folder=folder, name="set"), tokenizer)
    with pytest.raises(UserError, match="no chat template"):
        load_examples(DataConfig(folder=folder, name="set", format="chat"), tokenizer)


@pytest.fixture
def hub(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name, config, *, revision):
        asked.append((name, config, revision))
        if name == "no/such":
            raise datasets.exceptions.DatasetNotFoundError("Dataset 'no/such' doesn't exist")
        tables = {"train": DIALOGUES, "test": DIALOGUES[:4], "other": [{"x": 1}]}
        if name == "no/train":
            del tables["train"]
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(rows) for split, rows in tables.items()}
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_set_on_the_hub_is_read_split_by_split_at_its_revision(hub, chat_tokenizer):
    config = DataConfig(name="some/chats:small", format="chat", revision="v1.0")
    data = load_examples(config, chat_tokenizer)
    assert hub == [("some/chats", "small", "v1.0")]
    assert (len(data.train), len(data.held_out)) == (60, 4)
    assert data.facts["train"]["origin"] == "hub:some/chats:small@v1.0, train"
    assert data.facts["held_out"]["origin"] == "hub:some/chats:small@v1.0, test"
    assert data.facts["near_duplicates"]["near_duplicates"] == 4
    load_examples(DataConfig(name="some/chats", format="chat"), chat_tokenizer)
    assert hub[1] == ("some/chats", None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such", "'no/such' at revision 'v9': .*doesn't exist.*give a data folder"),
        ("no/train", "'no/train' has no split 'train'; found: test, other"),
    ],
)
def test_what_the_hub_lacks_is_named(hub, tokenizer, name, message):
    with pytest.raises(UserError, match=message):
        load_examples(DataConfig(name=name, revision="v9"), tokenizer)


def test_without_the_library_the_hub_is_a_user_error(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install jaxablate\[data\]"):
        check_data(DataConfig())
    check_data(BUNDLED)


def test_missing_data_is_noticed_without_reading(tmp_path):
    with pytest.raises(UserError, match="no such data folder"):
        check_data(DataConfig(folder=str(tmp_path / "none"), name="set"))
    folder = write(tmp_path, [])
    check_data(DataConfig(folder=folder, name="set"))
    with pytest.raises(UserError, match="no 'train' split"):
        check_data(DataConfig(folder=folder, name="other"))
    with pytest.raises(UserError, match="did you mean 'instructions'"):
        check_data(DataConfig(folder="samples", name="instruction"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "alpaca"}, "format"),
        ({"max_length": 1}, r"data.max_length must be >= 2, got 1"),
        ({"train_records": -1}, r"data.train_records must be >= 0"),
        ({"seed": -1}, r"data.seed must be >= 0"),
        ({"name": "a/b/c"}, "owner/name or owner/name:config, got 'a/b/c'"),
        ({"name": "../x"}, "owner/name"),
        ({"name": ""}, "needs folder and name"),
        ({"folder": "samples", "name": "instructions", "revision": "v1"}, "revision is for sets"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        build(DataConfig, Settings(settings))


def test_records_are_read_once_a_process_until_their_file_changes(tmp_path, tokenizer):
    rows = [{"instruction": f"say {n}", "output": f"the cat {n}"} for n in range(60)]
    write(tmp_path, rows)
    config = DataConfig(folder=str(tmp_path), name="set", max_length=64)
    first = load_examples(config, tokenizer)
    assert load_examples(config, tokenizer) is first
    write(tmp_path, [*rows, {"instruction": "say more", "output": "the cat sat"}])
    again = load_examples(config, tokenizer)
    assert len(again.train) + len(again.held_out) == 61
