"""A finetuning run: what it writes, what it refuses, how it ends, and that leaks show."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxablate
from jaxablate.checkpoints.steps import StepStore
from jaxablate.core import failpoints
from jaxablate.core.config import build
from jaxablate.core.errors import SaveError, UserError
from jaxablate.core.files import read_json
from jaxablate.core.settings import read_settings
from jaxablate.experiments.tiny import write_tiny_model
from jaxablate.masks.leak import LeakError
from jaxablate.runs.lock import LockedError
from jaxablate.runs.metrics import read_lines
from jaxablate.training.config import FinetuneConfig
from jaxablate.training.finetune import finetune
from tests.training.test_kills import SETTINGS, results

SMALL = [*SETTINGS, "steps=6", "save.every_steps=2", "eval_every=3"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, seed=0)
    return folder


def config(model: Path, out: Path, *more: str) -> FinetuneConfig:
    words = [f"checkpoint={model}", *SMALL, f"out={out}", *more]
    return build(FinetuneConfig, read_settings([], words))


class Watcher:
    def __init__(self):
        self.entries, self.notes, self.begun, self.summary = [], [], None, None

    def on_begin(self, facts):
        self.begun = facts

    def on_metrics(self, entry, timing):
        self.entries.append(entry)
        assert (timing is not None) == (entry["kind"] == "train")

    def on_note(self, sentence):
        self.notes.append(sentence)

    def on_end(self, summary):
        self.summary = summary


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    watcher, out = Watcher(), tmp_path_factory.mktemp("runs") / "finished"
    return finetune(config(model, out), observers=[watcher]), watcher


def test_metrics_are_those_that_were_asked_for(finished):
    outcome, watcher = finished
    entries = read_lines(outcome.path / "metrics.jsonl")
    assert entries == watcher.entries
    assert watcher.notes == []
    found = [(e["kind"], e["step"], e.get("mask")) for e in entries]
    evals = [("eval", step, mask) for step in (0, 3, 6) for mask in ("prefix_lm", "causal")]
    trains = [("train", 3, None), ("train", 6, None)]
    assert found == [*evals[:2], trains[0], *evals[2:4], trains[1], *evals[4:]]
    timing = read_lines(outcome.path / "timing.jsonl")
    assert [line["step"] for line in timing] == [3, 6]
    assert read_json(outcome.path / "manifest.json")["devices"] == "8 x cpu"
    assert all(line["tokens_per_s"] >= line["real_tokens_per_s"] > 0 for line in timing)


def test_the_examples_are_recorded_by_id(finished):
    outcome, _ = finished
    ids = read_json(outcome.path / "examples.json")
    for side, split in (("train", "train"), ("held_out", "validation")):
        assert len(ids[side]) == outcome.summary["data"][side]["encoded"]["examples"] > 2
        assert all(name.startswith(f"{split}:") for name in ids[side])


def test_the_checkpoint_says_by_which_config(finished, model):
    outcome, _ = finished
    store = StepStore(outcome.path / "checkpoints")
    record = store.open(store.steps()[-1]).record
    assert record["config"] == read_json(outcome.path / "manifest.json")["config"]
    assert record["progress"]["step"] == 6
    assert record["order"] == read_json(outcome.path / "manifest.json")["order"]


def test_the_summary_says_what_the_metrics_say(finished):
    outcome, watcher = finished
    summary = read_json(outcome.path / "summary.json")
    assert summary == outcome.summary == watcher.summary
    evals = [e for e in watcher.entries if e["kind"] == "eval"]
    trains = [e for e in watcher.entries if e["kind"] == "train"]
    assert summary["final"] == {
        "train_loss": trains[-1]["loss"],
        "evals": {e["mask"]: e for e in evals[-2:]},
    }
    steering = [e for e in evals if e["mask"] == "prefix_lm"]
    best = min(steering, key=lambda e: e["loss"])
    assert summary["best"] == {"step": best["step"], "loss": best["loss"], "mask": "prefix_lm"}
    assert summary["tokens_seen"] == sum(e["tokens"] for e in trains)
    assert summary["targets_seen"] == sum(e["targets"] for e in trains)
    assert (summary["steps_done"], summary["steps_planned"]) == (6, 6)
    assert summary["stop_reason"] == "finished"
    assert not summary["stopped"]
    chosen = outcome.path / summary["checkpoints"]["chosen"]
    assert chosen.name == f"step-{best['step']:08}"


def test_the_held_out_loss_is_what_the_finetuned_model_scores(finished):
    outcome, _ = finished
    lm = jaxablate.load(outcome.path)
    summary = outcome.summary
    from jaxablate.data.sft_config import DataConfig, load_examples

    data = load_examples(
        DataConfig(folder="samples", name="instructions", max_length=64, eval_records=4),
        lm.tokenizer,
    )
    pairs = [
        (e.tokens[: e.prompt_length].tolist(), e.tokens[e.prompt_length :].tolist())
        for e in data.held_out
    ]
    for mask in ("prefix_lm", "causal"):
        scores = lm.score(pairs, mask)
        mean = -sum(s.sum for s in scores) / sum(len(c) for _, c in pairs)
        assert mean == pytest.approx(summary["final"]["evals"][mask]["loss"], rel=1e-5)


def test_a_finished_run_is_only_read(finished, model):
    outcome, _ = finished
    before = {p: p.stat().st_mtime_ns for p in outcome.path.rglob("*") if p.is_file()}
    again = finetune(config(model, outcome.path))
    assert again == outcome
    assert {p: p.stat().st_mtime_ns for p in outcome.path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["data.name=instruction"], "did you mean 'instructions'"),
        (["mask=prefixlm"], "did you mean 'prefix_lm'"),
        (["rows=3", "mesh=data=2"], "multiple of 2 rows"),
        (["eval_at=[7]"], "eval_at must be within 0..steps (6), got 7"),
        (["microbatches=4"], "must divide by microbatches"),
        (["step.compute_dtype=float16"], "float32 or bfloat16"),
        (["save.keep_last=0"], "keep_last must be at least 1"),
        (["schedul.peak=1"], "did you mean 'schedule'"),
        (["frozen=[embeding/*]"], "fits no weight"),
        (["eval_masks=[full_bidirectional, causal]"], "steers the run and must not leak"),
    ],
)
def test_bad_settings_end_before_anything_is_written(model, tmp_path, more, sentence):
    with pytest.raises(UserError) as error:
        finetune(config(model, tmp_path / "run", *more))
    assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def test_another_config_leaves_a_folder_as_it_is(finished, model):
    outcome, _ = finished
    before = {p: p.read_bytes() for p in outcome.path.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"another config: schedule.peak: 0.001 -> 0.002"):
        finetune(config(model, outcome.path, "schedule.peak=2e-3"))
    assert {p: p.read_bytes() for p in outcome.path.rglob("*") if p.is_file()} == before


def test_a_mask_that_leaks_is_refused_by_name(model, tmp_path):
    with pytest.raises(LeakError, match="can see its own target"):
        finetune(config(model, tmp_path / "leaky", "mask=full_bidirectional"))
    assert not (tmp_path / "leaky").exists()


def test_data_without_a_needed_field_is_refused(model, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "train.jsonl").write_text('{"instruction": "a", "answer": "b"}\n')
    with pytest.raises(UserError, match="no row has a field 'output'"):
        finetune(config(model, tmp_path / "out", f"data={{folder: {tmp_path}, name: notes}}"))
    assert not (tmp_path / "out").exists()


def test_a_second_process_is_refused_with_the_owners_name(model, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(_Break):
        finetune(config(model, out), observers=[_Breaks(out, model)])


class _Break(BaseException):
    pass


class _Breaks(Watcher):
    """Looks, from within a run, what a second one is told."""

    def __init__(self, out: Path, model: Path):
        super().__init__()
        self.out, self.model = out, model

    def on_begin(self, facts):
        with pytest.raises(LockedError, match=r"another process writes here \(pid \d+"):
            finetune(config(self.model, self.out))
        raise _Break


def test_a_full_disk_ends_the_run_and_leaves_what_was_saved(finished, model, tmp_path):
    out = tmp_path / "full"
    failpoints.arm({"save.digest_done": "raise:OSError:28@2"})
    try:
        with pytest.raises(SaveError, match="no space left on device"):
            finetune(config(model, out))
    finally:
        failpoints.arm({})
    assert read_json(out / "manifest.json")["status"] == "failed"
    assert StepStore(out / "checkpoints").steps() == [0]
    assert results(finetune(config(model, out)).path) == results(finished[0].path)


def test_a_loss_that_is_no_number_ends_the_run(model, tmp_path):
    more = ["schedule={kind: constant, peak: 1e30, warmup_steps: 0}", "step.clip_norm=0"]
    outcome = finetune(config(model, tmp_path / "nan", *more))
    assert outcome.summary["stop_reason"] == "non_finite"
    assert outcome.summary["stopped"]
    assert outcome.summary["steps_done"] < 6
    lm = jaxablate.load(outcome.path)  # the newest checkpoint that is sound
    assert all(bool(np.isfinite(x).all()) for x in jax.tree.leaves(lm.params))


def test_resuming_on_another_mesh_gives_the_same_losses(finished, model, tmp_path):
    whole, _ = finished
    out = tmp_path / "moved"
    failpoints.arm({"save.begin": "raise:OSError:5@4"})
    try:
        with pytest.raises(SaveError):
            finetune(config(model, out))
    finally:
        failpoints.arm({})
    assert 0 < StepStore(out / "checkpoints").newest().step < 6
    moved = finetune(config(model, out, "mesh=data=2,fsdp=1,tensor=2"))
    for mask, entry in whole.summary["final"]["evals"].items():
        other = moved.summary["final"]["evals"][mask]["loss"]
        assert other == pytest.approx(entry["loss"], rel=1e-5)
    placed = jaxablate.load(moved.path, mesh="fsdp=4")
    assert jax.tree.leaves(placed.params)[0].sharding.mesh.shape["fsdp"] == 4


def test_a_seed_decides_everything(finished, model, tmp_path):
    again, other = (
        finetune(config(model, tmp_path / str(seed), f"seed={seed}")) for seed in (0, 1)
    )
    first = (finished[0].path / "metrics.jsonl").read_bytes()
    assert (again.path / "metrics.jsonl").read_bytes() == first
    assert (other.path / "metrics.jsonl").read_bytes() != first


def test_changed_weights_under_a_run_are_noticed(tmp_path):
    folder = tmp_path / "model"
    write_tiny_model(folder, seed=0)
    out = tmp_path / "run"
    failpoints.arm({"save.begin": "raise:OSError:5@3"})
    try:
        with pytest.raises(SaveError):
            finetune(config(folder, out))
    finally:
        failpoints.arm({})
    write_tiny_model(folder, seed=1)
    with pytest.raises(UserError, match="are not those this run began with: weights"):
        finetune(config(folder, out))


def test_a_leak_shows_in_the_gap_and_in_the_alarm(model, tmp_path):
    """The negative control: what a leaky loss measures is not there when the model writes.

    Answers are random letters, so that no honest loss comes below log(8) a letter.
    """
    write_letters(tmp_path / "letters")
    common = [
        f"data={{folder: {tmp_path}, name: letters, eval_records: 8}}",
        "rows=16",
        "steps=125",
        "log_every=25",
        "eval_every=125",
        "eval_at=[]",
        "save.every_steps=125",
        "schedule={kind: constant_with_warmup, peak: 3e-3, warmup_steps: 20}",
        "decode_rows=8",
        "allow_leaky=true",
        "stop={leak_action: note, leak_before_step: 125, leak_share: 0.25}",
    ]
    told = Watcher()
    causal, leaky = (
        finetune(
            config(model, tmp_path / mask, *common, f"mask={mask}", f"eval_masks=[{mask}]"),
            observers=[told],
        )
        for mask in ("causal", "full_bidirectional")
    )
    honest = causal.summary["final"]["evals"]["causal"]
    leaked = leaky.summary["final"]["evals"]["full_bidirectional"]
    assert honest["teacher_loss"] > 2
    assert honest["decode_loss"] == pytest.approx(honest["teacher_loss"], rel=1e-4)
    assert leaked["teacher_loss"] < 0.2
    assert leaked["decode_loss"] > honest["decode_loss"]
    assert (causal.summary["leaky"], leaky.summary["leaky"]) == (False, True)
    assert (honest["leaky"], leaked["leaky"]) == (False, True)
    assert "can see its own target" in read_json(leaky.path / "manifest.json")["leak"]
    assert [alarm["rule"] for alarm in leaky.summary["alarms"]] == ["leak_alarm"]
    assert not causal.summary["alarms"]
    assert told.notes == [f"alarm: {leaky.summary['alarms'][0]['sentence']}"]


def write_letters(folder: Path) -> None:
    """Records whose answers are 24 random ones of eight letters."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 600), ("validation", 16)):
        letters = ("".join(random.choice(list("abcdefgh"), 24)) for _ in range(count))
        lines = (json.dumps({"instruction": "Go.", "output": text}) for text in letters)
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
