"""Runs leave records and metrics that say what happened, and continue where they stopped."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxablate.core.config import build
from jaxablate.core.errors import UserError
from jaxablate.core.settings import parse_yaml
from jaxablate.engine.score import PairScore
from jaxablate.evaluation.config import SAMPLES, EvalConfig
from jaxablate.evaluation.progress import Silent
from jaxablate.evaluation.runner import evaluate, looks_ahead, read_records, records_name
from jaxablate.masks import parse
from jaxablate.runs.folder import read_manifest
from jaxablate.runs.lock import LockedError
from tests.data import tokens
from tests.evaluation.fake import FakeScorer, fake_lm, hash_score

BENCHMARKS = ("arc_challenge", "arc_easy", "hellaswag", "piqa", "winogrande")
MASKS = ("causal", "prefix_lm", "layers(0) & prefix_lm | ~layers(0) & causal")


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return fake_lm(tmp_path_factory.mktemp("lm") / "tokenizer")


def config(out, **settings):
    defaults = {
        "checkpoint": "some/Tiny",
        "tasks": ("piqa", "winogrande"),
        "masks": MASKS[:2],
        "data": "samples",
        "bootstrap_samples": 200,
    }
    return EvalConfig(**{**defaults, **settings}, out=str(out))


def evaluated(lm, settings, **scorer):
    return evaluate(
        lm, settings, progress=Silent(), make_scorer=lambda mask: FakeScorer(mask, **scorer)
    )


def files(folder):
    """Results of a run, by name: what must not depend on how it came about."""
    paths = [folder / "metrics.json", *sorted((folder / "records").iterdir())]
    return {path.name: path.read_bytes() for path in paths}


def task_of(outcome, name, result=0):
    return next(t for t in outcome.metrics["results"][result]["tasks"] if t["task"] == name)


def test_records_say_what_was_measured_of_each_item(lm, tmp_path):
    outcome = evaluated(lm, config(tmp_path / "run"))
    records = read_records(tmp_path / "run" / "records" / "piqa.prefix_lm.jsonl")
    rows = [json.loads(x) for x in (SAMPLES / "piqa" / "validation.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"validation/{i}" for i in range(24)]
    for row, record in zip(rows, records, strict=True):
        prompt = lm.tokenizer.encode(f"Question: {row['goal']}\nAnswer:")
        answers = [row["sol1"], row["sol2"]]
        ids = [lm.tokenizer.encode(" " + answer) for answer in answers]
        wanted = [hash_score(parse("prefix_lm"), prompt, own) for own in ids]
        assert record["label"] == row["label"]
        assert record["logprobs"] == [score.sum for score in wanted]
        assert record["num_tokens"] == [len(own) for own in ids]
        assert record["num_chars"] == [len(answer) for answer in answers]
        assert record["num_bytes"] == [len(answer.encode()) for answer in answers]
        sums = np.asarray(record["logprobs"])
        assert record["predictions"] == {
            "acc": int(np.argmax(sums)),
            "acc_norm": int(np.argmax(sums / record["num_chars"])),
            "acc_bytes": int(np.argmax(sums / record["num_bytes"])),
            "acc_per_token": int(np.argmax(sums / record["num_tokens"])),
        }
    correct = sum(record["predictions"]["acc_norm"] == record["label"] for record in records)
    assert task_of(outcome, "piqa", 1)["accuracy"] == correct / 24


def test_metrics_keep_the_reference_systems_fields_and_add_to_them(lm, tmp_path):
    outcome = evaluated(lm, config(tmp_path / "run", tasks=BENCHMARKS))
    assert [r["name"] for r in outcome.metrics["results"]] == ["causal", "prefix_lm"]
    assert [r["prefill_bidirectional"] for r in outcome.metrics["results"]] == [False, True]
    for result in outcome.metrics["results"]:
        assert result["model_id"] == "some/Tiny"
        assert result["leaky"] is False
        assert [task["task"] for task in result["tasks"]] == list(BENCHMARKS)
        assert result["macro_accuracy"] == pytest.approx(
            np.mean([task["accuracy"] for task in result["tasks"]])
        )
        for task in result["tasks"]:
            assert task["total"] == 24
            assert task["chance"] == 1 / (2 if task["task"] in ("piqa", "winogrande") else 4)
            for measure in task["measures"].values():
                assert measure["low"] <= measure["value"] <= measure["high"]
                assert measure["value"] == measure["correct"] / measure["n"]
                assert sum(measure["choices"]) == 24
        assert result["macro"]["primary"]["value"] == pytest.approx(result["macro_accuracy"])
    # Hashes know nothing, so their macro score is at chance.
    assert outcome.metrics["results"][0]["macro"]["acc"]["low"] < 0.35


def test_the_manifest_identifies_the_run(lm, tmp_path):
    settings = config(tmp_path / "run")
    evaluate(
        lm, settings, progress=Silent(), make_scorer=FakeScorer, provenance={"limit": "default"}
    )
    manifest = read_manifest(tmp_path / "run")
    assert manifest["status"] == "done"
    assert manifest["weights"] == "0123"
    assert manifest["tokenizer"] == lm.tokenizer.digest
    assert manifest["data"]["piqa"]["licence"] == "Apache-2.0"
    assert manifest["config"]["masks"] == list(MASKS[:2])
    assert manifest["provenance"] == {"limit": "default"}
    assert manifest["scorers"]["prefix_lm"]["platform"] == "fake"


@pytest.mark.parametrize("allowed", [0, 1, 3, 6, 7])
def test_an_interrupted_run_ends_byte_for_byte_like_an_uninterrupted_one(lm, tmp_path, allowed):
    whole = evaluated(lm, config(tmp_path / "whole", masks=MASKS))
    settings = config(tmp_path / "cut", masks=MASKS)
    with pytest.raises(RuntimeError, match="the power went out"):
        evaluated(lm, settings, allowed=allowed)
    assert read_manifest(tmp_path / "cut")["status"] == "failed"
    scorers = []

    def make(mask):
        scorers.append(FakeScorer(mask))
        return scorers[-1]

    again = evaluate(lm, settings, progress=Silent(), make_scorer=make)
    assert files(again.path) == files(whole.path)
    batches = len(scorers[0].plan(scorers[0].questions))
    # The first mask's finished batches are not asked again; the others are asked whole.
    assert [len(scorer.answered) for scorer in scorers] == [batches - allowed, batches, batches]


def test_a_torn_journal_costs_one_batch_and_changes_nothing(lm, tmp_path):
    whole = evaluated(lm, config(tmp_path / "whole"))
    settings = config(tmp_path / "cut")
    with pytest.raises(RuntimeError):
        evaluated(lm, settings, allowed=4)
    journal = tmp_path / "cut" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-3])
    assert files(evaluated(lm, settings).path) == files(whole.path)


def test_a_finished_run_is_read_and_nothing_is_scored_again(lm, tmp_path):
    settings = config(tmp_path / "run")
    first = evaluated(lm, settings)
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    again = evaluated(lm, settings, allowed=0)
    assert again == first
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_the_same_command_finds_its_folder_without_a_name(lm, tmp_path):
    settings = EvalConfig(
        checkpoint="some/Tiny", tasks=("piqa",), data="samples", runs=str(tmp_path), limit=5
    )
    with pytest.raises(RuntimeError):
        evaluated(lm, settings, allowed=0)
    outcome = evaluated(lm, settings)
    assert [path.name for path in tmp_path.iterdir()] == [outcome.path.name]
    assert "-tiny-" in outcome.path.name


@pytest.mark.parametrize("done", [False, True])
def test_other_weights_are_refused_in_the_same_folder(lm, tmp_path, done):
    settings = config(tmp_path / "run")
    if done:
        evaluated(lm, settings)
    else:
        with pytest.raises(RuntimeError):
            evaluated(lm, settings, allowed=2)
    other = SimpleNamespace(**{**vars(lm), "source": {"weights": "4567"}})
    with pytest.raises(UserError, match="not those this run began with: weights: '0123' -> '4567'"):
        evaluated(other, settings)


def test_another_plan_or_code_is_refused_by_the_journal(lm, tmp_path):
    settings = config(tmp_path / "run")
    with pytest.raises(RuntimeError):
        evaluated(lm, settings, allowed=2)
    with pytest.raises(UserError, match="the finished batches in it are another's: plan: "):
        evaluated(lm, settings, size=5)


def test_another_config_is_refused_with_the_differing_keys(lm, tmp_path):
    evaluated(lm, config(tmp_path / "run"))
    with pytest.raises(UserError, match="another config: limit: 0 -> 3"):
        evaluated(lm, config(tmp_path / "run", limit=3))


def test_operational_settings_do_not_make_another_run(lm, tmp_path):
    evaluated(lm, config(tmp_path / "run"))
    evaluated(lm, config(tmp_path / "run", progress_every_s=1.0), allowed=0)


def test_results_do_not_depend_on_batches(lm, tmp_path):
    one = evaluated(lm, config(tmp_path / "one"), size=1)
    many = evaluated(lm, config(tmp_path / "many"), size=50)
    assert files(one.path) == files(many.path)


def data_folder(folder, rows):
    for name, own in rows.items():
        (folder / name).mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in own)
        (folder / name / "validation.jsonl").write_text(text)
    return str(folder)


def sample_rows(name):
    path = SAMPLES / name / "validation.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_order_of_rows_changes_records_only_in_their_names(lm, tmp_path):
    rows = sample_rows("hellaswag")
    straight = data_folder(tmp_path / "a", {"hellaswag": rows})
    turned = data_folder(tmp_path / "b", {"hellaswag": rows[::-1]})
    found = []
    for name, data in (("one", straight), ("two", turned)):
        settings = config(tmp_path / name, tasks=("hellaswag",), masks=("causal",), data=data)
        evaluated(lm, settings)
        found.append(read_records(tmp_path / name / "records" / "hellaswag.causal.jsonl"))
    nameless = [[{**record, "id": ""} for record in records] for records in found]
    assert nameless[0] == nameless[1][::-1]


def test_shuffled_golds_change_metrics_and_nothing_else(lm, tmp_path):
    rows = sample_rows("hellaswag")
    shuffled = [{**row, "label": str((int(row["label"]) + 1) % 4)} for row in rows]
    found = []
    for name, own in (("a", rows), ("b", shuffled)):
        data = data_folder(tmp_path / name, {"hellaswag": own})
        settings = config(tmp_path / f"run-{name}", tasks=("hellaswag",), data=data)
        outcome = evaluated(lm, settings)
        records = read_records(outcome.path / "records" / "hellaswag.causal.jsonl")
        found.append((task_of(outcome, "hellaswag"), records))
    (task_a, records_a), (task_b, records_b) = found
    assert [{**r, "label": 0} for r in records_a] == [{**r, "label": 0} for r in records_b]
    assert task_a["labels"] != task_b["labels"] or task_a["accuracy"] != task_b["accuracy"]
    assert task_a["measures"]["acc"]["choices"] == task_b["measures"]["acc"]["choices"]


def test_limits_take_heads_or_recorded_random_rows(lm, tmp_path):
    evaluated(lm, config(tmp_path / "head", limit=5))
    manifest = read_manifest(tmp_path / "head")
    assert manifest["data"]["piqa"]["rows"] == 5
    assert manifest["data"]["piqa"]["chosen"] is None
    evaluated(lm, config(tmp_path / "random", limit=5, subset="random", subset_seed=1))
    chosen = read_manifest(tmp_path / "random")["data"]["piqa"]["chosen"]
    records = read_records(tmp_path / "random" / "records" / "piqa.causal.jsonl")
    assert [record["id"] for record in records] == [f"validation/{index}" for index in chosen]
    assert chosen != [0, 1, 2, 3, 4]


def constant(value):
    def score(mask, prompt, continuation):
        return PairScore(np.full(len(continuation), value, np.float32), False)

    return score


def test_ties_are_counted_and_the_first_choice_wins(lm, tmp_path):
    settings = config(tmp_path / "run", tasks=("winogrande",))
    found = task_of(evaluated(lm, settings, score=constant(-1.0)), "winogrande")
    assert found["measures"]["acc"]["ties"] == 24
    assert found["measures"]["acc"]["choices"] == [24, 0]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_score_that_is_not_finite_is_an_error_that_names_the_item(lm, tmp_path, value):
    with pytest.raises(UserError, match=r"piqa, validation/0: a log-probability is (nan|-inf)"):
        evaluated(lm, config(tmp_path / "run"), score=constant(value))


def test_compat_counts_boundary_mismatches_and_choices_without_tokens(lm, tmp_path):
    outcome = evaluated(lm, config(tmp_path / "run", variant="compat"))
    found = task_of(outcome, "winogrande")
    assert found["accuracy_by"] == "acc_per_token"
    assert found["boundary_mismatches"] > 0
    assert outcome.metrics["variant"] == "compat"
    row = {"sentence": "so he sat on the _", "option1": "cat", "option2": "mat", "answer": "1"}
    data = data_folder(tmp_path / "data", {"winogrande": [row] * 3 + sample_rows("winogrande")})
    settings = config(tmp_path / "two", variant="compat", tasks=("winogrande",), data=data)
    outcome = evaluated(lm, settings)
    found = task_of(outcome, "winogrande")
    records = read_records(outcome.path / found["records"])
    assert found["without_tokens"] > 0
    assert None in records[0]["logprobs"]
    assert found["total"] == 27


def test_compat_chance_is_the_references_and_standard_chance_is_per_item(lm, tmp_path):
    rows = sample_rows("arc_easy")
    three = {"text": ["a b", "c d", "e f"], "label": ["A", "B", "C"]}
    rows = [*rows[:3], {**rows[0], "choices": three, "answerKey": "A"}]
    data = data_folder(tmp_path / "data", {"arc_easy": rows})
    found = {
        variant: task_of(
            evaluated(
                lm, config(tmp_path / variant, tasks=("arc_easy",), data=data, variant=variant)
            ),
            "arc_easy",
        )
        for variant in ("standard", "compat")
    }
    assert found["standard"]["chance"] == (3 / 4 + 1 / 3) / 4
    assert found["compat"]["chance"] == 1 / 3.75
    assert found["compat"]["chance_per_item"] == found["standard"]["chance"]


def test_too_many_boundary_mismatches_stop_the_standard_evaluation(tmp_path):
    # No word boundaries at all: tokens merge across every border.
    core = tokens.byte_bpe()
    core.pre_tokenizer = tokens.pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    core.decoder = tokens.decoders.Metaspace(prepend_scheme="never", split=False)
    vocab = {"<unk>": 0, "Answer:": 1, "▁": 2, "Answer:▁": 3, "a": 4, "b": 5, "c": 6}
    merges = [("Answer:", "▁")]
    letters = [letter for letter in "Answer:" if letter not in vocab]
    for letter in letters:
        vocab[letter] = len(vocab)
    core.model = tokens.models.BPE(vocab=vocab, merges=merges, unk_token="<unk>")
    core.add_tokens(["Answer:"])
    lm = fake_lm(tokens.save(tmp_path / "merging", joined(), bos=None))
    with pytest.raises(UserError, match="in 10 of 10 pairs a token spans the border"):
        evaluated(lm, config(tmp_path / "run", tasks=("piqa",), limit=5))
    assert not (tmp_path / "run").exists()
    fine = config(tmp_path / "run", tasks=("piqa",), limit=5, boundary="offset", boundary_limit=1.0)
    assert task_of(evaluated(lm, fine), "piqa")["boundary_mismatches"] == 10


def joined():
    """A tokenizer that joins the colon before an answer with the space after it."""
    core = tokens.tokenizers.Tokenizer(tokens.models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = tokens.pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    core.decoder = tokens.decoders.Metaspace(prepend_scheme="never", split=False)
    trainer = tokens.trainers.BpeTrainer(
        vocab_size=100, special_tokens=[*tokens.SPECIALS, "<unk>"], show_progress=False
    )
    core.train_from_iterator([": " * 50, "Answer: " * 50, "abcdefghijklmnop"], trainer)
    return core


def test_a_leaky_mask_is_stamped(lm, tmp_path):
    settings = config(tmp_path / "run", masks=("full_bidirectional",), allow_leaky=True)
    outcome = evaluated(lm, settings, leaky=True)
    assert outcome.metrics["results"][0]["leaky"] is True
    assert read_manifest(outcome.path)["leaky"] == ["full_bidirectional"]


def test_nothing_is_written_before_the_data_and_the_plans_are_right(lm, tmp_path):
    with pytest.raises(UserError, match="no such data folder"):
        evaluated(lm, config(tmp_path / "run", data=str(tmp_path / "nowhere")))

    def refuse(questions):
        raise UserError("the mask leaks")

    def make(mask):
        scorer = FakeScorer(mask)
        scorer.plan = refuse
        return scorer

    with pytest.raises(UserError, match="the mask leaks"):
        evaluate(lm, config(tmp_path / "run"), progress=Silent(), make_scorer=make)
    assert not (tmp_path / "run").exists()


def test_a_second_process_is_refused_while_the_first_one_works(lm, tmp_path):
    settings = config(tmp_path / "run")

    def nested(mask, prompt, continuation):
        with pytest.raises(LockedError, match=f"pid {os.getpid()}"):
            evaluated(lm, settings)
        return hash_score(mask, prompt, continuation)

    small = config(tmp_path / "run", tasks=("piqa",), limit=1, masks=("causal",))
    settings = small
    evaluated(lm, small, score=nested)


CHILD = """
import sys, time
from pathlib import Path
from tests.evaluation.fake import FakeScorer, fake_lm, hash_score
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.progress import Silent
from jaxablate.evaluation.runner import evaluate

def slow(mask, prompt, continuation):
    time.sleep(0.02)
    return hash_score(mask, prompt, continuation)

config = EvalConfig(checkpoint="some/Tiny", tasks=("piqa", "winogrande"),
    masks=("causal", "prefix_lm"), data="samples", bootstrap_samples=200, out=sys.argv[2])
evaluate(fake_lm(Path(sys.argv[1])), config, progress=Silent(),
    make_scorer=lambda mask: FakeScorer(mask, score=slow))
"""


def test_a_killed_process_is_continued_by_the_same_command(lm, tmp_path):
    whole = evaluated(lm, config(tmp_path / "whole"))
    folder = lm.tokenizer.folder
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(tmp_path / "cut")])
    journal = tmp_path / "cut" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 4:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert read_manifest(tmp_path / "cut")["status"] == "running"
    assert journal.read_bytes().count(b"\n") >= 4
    again = evaluated(lm, config(tmp_path / "cut"))
    assert files(again.path) == files(whole.path)
    assert [a["attempt"] for a in read_manifest(again.path)["attempts"]] == [1, 2]


def test_a_mask_looks_ahead_if_any_layer_or_head_does():
    assert not looks_ahead(parse("causal"), 2, 2)
    assert looks_ahead(parse("prefix_lm"), 2, 2)
    assert looks_ahead(parse("layers(1) & prefix_lm | ~layers(1) & causal"), 2, 2)
    assert looks_ahead(parse("heads(1) & prefix_lm | ~heads(1) & causal"), 1, 2)


def test_record_files_have_distinct_safe_names():
    names = [records_name("piqa", mask) for mask in (*MASKS, "causal & window(3)", "Causal")]
    assert names[:2] == ["piqa.causal.jsonl", "piqa.prefix_lm.jsonl"]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for name in names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [piqa]", "'checkpoint' is required"),
        ("{checkpoint: x, tasks: []}", "at least one task is needed"),
        ("{checkpoint: x, tasks: [piqa, piqa]}", "task 'piqa' is given twice"),
        ("{checkpoint: x, tasks: [pica]}", "did you mean 'piqa'"),
        ("{checkpoint: x, tasks: [piqa], masks: [casual]}", "causal"),
        (
            "{checkpoint: x, tasks: [piqa], masks: [prefix_lm, causal | within(prompt)]}",
            r"mask 'causal \| within\(prompt\)' is given twice",
        ),
        ("{checkpoint: x, tasks: [piqa], dtype: float8}", "unknown dtype 'float8'"),
        ("{checkpoint: x, tasks: [piqa], limit: -1}", "limit must be >= 0"),
        ("{checkpoint: x, tasks: [piqa], variant: standart}", "did you mean 'standard'"),
        ("{checkpoint: x, tasks: [piqa], boundary_limit: 2}", r"boundary_limit must be in 0\.\.1"),
        ("{checkpoint: x, tasks: [piqa], window_policy: some}", "window_policy must be one of"),
        ("{checkpoint: x, tasks: [piqa], bootstrap_samples: 0}", "bootstrap_samples must be >= 1"),
        ("{checkpoint: x, taks: [piqa]}", "did you mean 'tasks'"),
    ],
)
def test_a_wrong_config_is_named(text, message):
    with pytest.raises(UserError, match=message):
        build(EvalConfig, parse_yaml(text, "eval.yaml"))


def test_yaml_is_a_config():
    text = "{checkpoint: x, tasks: [piqa], masks: [causal & window(8)], bos: yes, dtype: BF16}"
    made = build(EvalConfig, parse_yaml(text, "eval.yaml"))
    assert (made.bos, made.dtype, made.masks) == ("yes", "bfloat16", ("causal & window(8)",))
