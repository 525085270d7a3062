"""From run folders to what a report says: numbers from the folder, honest verdicts, no mixing."""

import json
import math

import numpy as np
import pytest

from jaxablate.core.errors import UserError
from jaxablate.reports.build import build_view
from jaxablate.reports.load import load_run
from jaxablate.reports.render import html, markdown
from tests.reports.folders import write_run

GOOD, HALF = [True] * 60, [True, False] * 30
WORSE = [True] * 30 + [False] * 30


def view_of(*folders, **settings):
    return build_view([load_run(folder) for folder in folders], title="t", **settings)


def only(values, task, mask):
    (found,) = [v for v in values if v.task == task and v.condition.label.endswith(mask)]
    return found


@pytest.fixture
def run(tmp_path):
    answers = {
        "causal": {"piqa": GOOD, "arc": HALF},
        "prefix_lm": {"piqa": WORSE, "arc": HALF},
        "full": {"piqa": GOOD, "arc": GOOD},
    }
    return write_run(tmp_path / "first", answers, leaky=("full",))


def test_accuracies_are_those_of_the_metrics_file(run):
    view = view_of(run)
    metrics = json.loads((run / "metrics.json").read_text())
    for result in metrics["results"]:
        for task in result["tasks"]:
            shown = only(view.results, task["task"], result["name"]).accuracy
            wanted = task["measures"]["acc"]
            assert (shown.value, shown.low, shown.high) == (
                wanted["value"],
                wanted["low"],
                wanted["high"],
            )


def test_a_difference_is_the_mean_of_the_pairwise_differences_with_mcnemars_p(run):
    found = only(view_of(run).differences, "piqa", "prefix_lm")
    pairs = np.asarray(WORSE, float) - np.asarray(GOOD, float)
    assert found.value.value == pytest.approx(pairs.mean())
    assert found.value.low <= found.value.value <= found.value.high
    # Thirty discordant pairs, all one way: twice the binomial tail.
    assert found.p_value == pytest.approx(2 * 0.5**30)
    assert found.verdict == "distinguishable from zero"
    assert found.recovery.value == pytest.approx(0.5)
    assert found.retention.value == pytest.approx(0.0)


def test_equal_answers_are_not_distinguishable(run):
    found = only(view_of(run).differences, "arc", "prefix_lm")
    assert (found.value.value, found.p_value) == (0.0, 1.0)
    assert found.verdict == "not distinguishable from zero"


def test_retention_needs_a_baseline_above_chance(run):
    assert only(view_of(run).differences, "arc", "prefix_lm").retention is None


def test_holms_correction_counts_every_honest_comparison(tmp_path):
    slightly = [False] * 6 + [True] * 54
    answers = {"causal": {"a": GOOD}} | {f"m{i}": {"a": slightly} for i in range(4)}
    found = view_of(write_run(tmp_path / "r", answers)).differences
    assert len(found) == 4
    for difference in found:
        assert difference.p_value == pytest.approx(2 * 0.5**6)
        assert difference.adjusted == pytest.approx(4 * difference.p_value)
        assert difference.verdict == "not distinguishable from zero"


def test_a_leaky_condition_takes_no_part_in_tests_and_gets_no_ratio(run):
    view = view_of(run)
    assert only(view.results, "arc", "full").verdict == "leaky: not a measure of skill"
    found = only(view.differences, "arc", "full")
    assert (found.p_value, found.adjusted, found.recovery, found.retention) == (None,) * 4
    assert any("LEAKY" in warning and "full" in warning for warning in view.warnings)


def test_the_macro_difference_is_the_mean_over_tasks(run):
    found = only(view_of(run).macro_differences, "all tasks", "prefix_lm")
    assert found.value.value == pytest.approx((-0.5 + 0.0) / 2)
    assert found.recovery.value == pytest.approx(0.5 / 0.75)
    assert found.retention.value == pytest.approx(0.0)
    assert found.verdict == "interval excludes zero"


def test_the_baseline_can_be_chosen_and_a_leaky_one_is_not_taken_by_default(tmp_path):
    answers = {"full": {"a": GOOD}, "causal": {"a": GOOD}, "prefix_lm": {"a": WORSE}}
    run = write_run(tmp_path / "r", answers, leaky=("full",))
    chosen = [c.label for c in view_of(run).conditions if c.baseline]
    assert chosen == ["causal"]
    view = view_of(run, baseline="prefix_lm")
    assert only(view.differences, "a", "causal").value.value == pytest.approx(0.5)
    view = view_of(run, baseline="full")
    assert view.differences == ()
    assert any("nothing is compared" in warning for warning in view.warnings)
    with pytest.raises(UserError, match=r"unknown mask of run r 'causl'.*did you mean 'causal'"):
        view_of(run, baseline="causl")


def test_a_stopped_run_is_named_and_is_in_no_table(run, tmp_path):
    stopped = write_run(tmp_path / "second", {"causal": {"piqa": GOOD}}, status="interrupted")
    view = view_of(run, stopped)
    assert {condition.run for condition in view.conditions} == {"first"}
    assert any("second is interrupted (KeyboardInterrupt)" in warning for warning in view.warnings)
    assert [entry["status"] for entry in view.runs] == ["done", "interrupted"]
    with pytest.raises(UserError, match="no finished run to report: second is interrupted"):
        view_of(stopped)


def test_runs_are_compared_with_their_own_baseline_unless_asked_otherwise(tmp_path):
    base = write_run(tmp_path / "base", {"causal": {"a": GOOD}, "prefix_lm": {"a": WORSE}})
    tuned = write_run(tmp_path / "tuned", {"causal": {"a": WORSE}, "prefix_lm": {"a": GOOD}})
    apart = view_of(base, tuned)
    assert {d.condition.label: d.value.value for d in apart.differences} == {
        "base: prefix_lm": -0.5,
        "tuned: prefix_lm": 0.5,
    }
    across = view_of(base, tuned, compare=True)
    assert {d.condition.label: d.value.value for d in across.differences} == {
        "base: prefix_lm": -0.5,
        "tuned: causal": -0.5,
        "tuned: prefix_lm": 0.0,
    }


@pytest.mark.parametrize(
    "other", [{"data": "other rows"}, {"answers": {"causal": {"a": GOOD[:9]}}}]
)
def test_different_questions_are_never_paired(tmp_path, other):
    base = write_run(tmp_path / "base", {"causal": {"a": GOOD}})
    answers = other.pop("answers", {"causal": {"a": GOOD}})
    tuned = write_run(tmp_path / "tuned", answers, **other)
    assert view_of(base, tuned).differences == ()
    with pytest.raises(UserError, match="did not answer the same"):
        view_of(base, tuned, compare=True)


def test_settings_in_which_runs_differ_are_told(tmp_path):
    runs = [
        write_run(tmp_path / dtype, {"causal": {"a": GOOD}}, config={"dtype": dtype})
        for dtype in ("float32", "bfloat16")
    ]
    assert "The runs differ in dtype: float32, bfloat16." in view_of(*runs).warnings


def test_the_appendix_names_what_identifies_a_run(run):
    (facts,) = view_of(run).runs
    text = "\n".join(f"{name}: {value}" for name, value in facts["facts"])
    manifest = json.loads((run / "manifest.json").read_text())
    for wanted in (
        manifest["fingerprint"],
        "w" * 64,
        "c" * 40 + " with uncommitted changes",
        "xla serves dense (declined: a: b)",
        "a sentence about the leak",
        "rows_in_split: 9",
        "jax 0.10.2",
        "right [60, 0], chosen [30, 30]",
    ):
        assert wanted in text, wanted


def test_compat_switches_are_stamped(tmp_path):
    config = {"variant": "compat", "allow_leaky": True, "bos": "yes"}
    view = view_of(write_run(tmp_path / "r", {"causal": {"a": GOOD}}, config=config))
    facts = dict(view.runs[0]["facts"])
    assert facts["switches"] == "variant = compat, bos = yes, allow_leaky = True"
    assert any("compat" in warning for warning in view.warnings)


def test_both_pages_show_every_accuracy_of_the_folder(run):
    view = view_of(run)
    for page in (html(view), markdown(view)):
        for result in view.results:
            assert f"{result.accuracy.value:.3f}" in page
            assert str(result.num_items) in page


def test_records_that_contradict_the_metrics_are_refused(run):
    path = run / "records" / "piqa.prefix_lm.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = lines[0].replace('"acc": 0', '"acc": 1')
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"29 right of 60 items, metrics.json says 30 of 60"):
        view_of(run)


def _drop(path, *keys):
    table = json.loads(path.read_text())
    inner = table
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    path.write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("results",), "the file has no 'results'"),
        (("results", 0, "leaky"), r"results\[0\] has no 'leaky'"),
        (("results", 0, "macro", "primary", "low"), "has no 'low'"),
        (("results", 1, "tasks", 0, "measures", "acc", "n"), "has no 'n'"),
    ],
)
def test_metrics_that_lack_something_are_refused_by_name(run, keys, told):
    _drop(run / "metrics.json", *keys)
    with pytest.raises(UserError, match=told):
        view_of(run)


@pytest.mark.parametrize("value", ['"0.5"', "null", "[]", "true"])
def test_metrics_of_another_kind_are_refused(run, value):
    path = run / "metrics.json"
    table = json.loads(path.read_text())
    table["results"][0]["macro"]["primary"]["value"] = json.loads(value)
    path.write_text(json.dumps(table))
    with pytest.raises(UserError, match="must be of type float"):
        view_of(run)


def test_records_outside_the_folder_are_not_read(run, tmp_path):
    outside = tmp_path / "secret.jsonl"
    outside.write_text("{}\n")
    path = run / "metrics.json"
    table = json.loads(path.read_text())
    table["results"][1]["tasks"][0]["records"] = "../../secret.jsonl"
    path.write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"records/secret.jsonl: no such file"):
        view_of(run)


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no such file"):
        load_run(tmp_path)
    write_run(tmp_path / "r", {"causal": {"a": GOOD}})
    manifest = tmp_path / "r" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"evaluate"', '"train"'))
    with pytest.raises(UserError, match="holds a run of 'train', wanted 'evaluate'"):
        load_run(tmp_path / "r")


def test_the_same_run_twice_is_refused(run):
    with pytest.raises(UserError, match="is given twice"):
        view_of(run, run)


def test_a_ratio_over_next_to_nothing_has_no_size(tmp_path):
    lucky = [True] * 3 + [False] * 57
    answers = {"causal": {"a": lucky}, "prefix_lm": {"a": GOOD}}
    run = write_run(tmp_path / "r", answers, choices=4)
    found = only(view_of(run).differences, "a", "prefix_lm")
    assert found.recovery.value == pytest.approx(20)
    assert math.isfinite(found.recovery.high)
    assert "e+" not in html(view_of(run))
