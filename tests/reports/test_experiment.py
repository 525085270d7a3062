"""The report of an experiment: numbers from the folders, honest verdicts, equal bytes."""

import json
import math
import re
import shutil

import pytest

from jaxablate.core.errors import UserError
from jaxablate.reports.experiment import load_experiment, write_report
from jaxablate.reports.overview import build_overview
from tests.reports.experiments import RATES, answers_of, write_experiment

lxml_html = pytest.importorskip("lxml.html")
STOPPED = {"sft_causal": "no_learning"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    write_experiment(folder, stopped=STOPPED)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def view(root):
    return build_overview(load_experiment(root))


@pytest.fixture(scope="module")
def pages(root):
    return (root / "report.html").read_text(), (root / "report.md").read_text()


def view_of(root, **settings):
    write_experiment(root, **settings)
    return build_overview(load_experiment(root))


def edit(path, change):
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def one(folder, stage):
    (found,) = folder.glob(f"{stage}-*")
    return found


def found_in(view, model, mask):
    (column,) = [c for c in view.columns if c.mask == mask]
    (chosen,) = [m for m in view.models if m.name == model]
    return view.result(chosen, column), view.difference(chosen, column)


@pytest.mark.parametrize("model", RATES)
@pytest.mark.parametrize("mask", RATES["base"])
def test_every_cell_is_the_mean_over_the_tasks_of_the_share_of_right_answers(view, model, mask):
    shares = [sum(right) / len(right) for right in answers_of(RATES[model][mask]).values()]
    result, _ = found_in(view, model, mask)
    assert result.accuracy.value == pytest.approx(sum(shares) / len(shares))
    assert result.condition.leaky == (mask == "full")


def test_recovery_and_retention_are_shares_of_the_base_under_the_baselines_mask(view):
    for model, mask in (
        ("base", "prefix_lm"),
        ("sft_prefix", "prefix_lm"),
        ("sft_causal", "causal"),
    ):
        got, baseline = RATES[model][mask], RATES["base"]["causal"]
        _, difference = found_in(view, model, mask)
        assert difference.recovery.value == pytest.approx(got / baseline)
        assert difference.retention.value == pytest.approx((got - 0.5) / (baseline - 0.5))
        assert difference.recovery.low < difference.recovery.value < difference.recovery.high


def _mcnemar(first, second):
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2 ** (gained + lost))


def _rights(model, mask):
    return answers_of(RATES[model][mask], shift=3 if mask == "causal" else 0)


def test_every_honest_comparison_is_in_one_family_of_tests(view):
    rows = [row for table in view.comparisons for row in table.rows if row.p_value is not None]
    # Two tasks: five cells against the baseline, two models under prefix_lm, one arm to the other.
    assert len(rows) == 2 * (5 + 2 + 1)
    for row in rows:
        own = _rights(row.condition.model, row.condition.mask)[row.task]
        base = _rights(row.against.model, row.against.mask)[row.task]
        assert row.p_value == pytest.approx(_mcnemar(base, own))
        assert row.value.value == pytest.approx((sum(own) - sum(base)) / len(own))
    ordered = sorted(rows, key=lambda row: row.p_value)
    least = 0.0
    for rank, row in enumerate(ordered):
        least = max(least, min(1.0, (len(rows) - rank) * row.p_value))
        assert row.adjusted == pytest.approx(least)


def test_a_leaky_mask_is_shown_and_labelled_and_never_compared(view, pages):
    for table in view.comparisons:
        assert not [r for r in table.rows if r.condition.mask == "full" or r.against.mask == "full"]
    assert found_in(view, "sft_prefix", "full")[1] is None
    page, text = pages
    for table in lxml_html.document_fromstring(page).xpath("//table"):
        for cell in table.xpath(".//th|.//td[contains(@class, 'text')]"):
            words = cell.text_content()
            if re.match(r"full\b", words):
                assert "LEAKY" in words or "step" in table.text_content()
    assert "| full **LEAKY** |" in text


def test_a_stopped_run_is_marked_in_every_row_where_its_model_stands(pages):
    page, text = pages
    tree = lxml_html.document_fromstring(page)
    rows = [r for r in tree.xpath("//tr") if "sft_causal" in r.text_content()]
    assert len(rows) > 12
    assert not [r.text_content() for r in rows if "STOPPED" not in r.text_content()]
    for place in tree.xpath("//h4|//div[@class='row']"):
        if "sft_causal" in place.xpath("string(.//text()[normalize-space()])"):
            assert "STOPPED" in place.text_content()
    for line in text.split("## Experiment")[0].splitlines():
        if "sft\\_causal" in line and line.startswith(("|", "#")):
            # The judged model is also named beside the other one.
            assert "STOPPED" in line, line
    assert "sft_causal ended after 20 of 40 steps by the rule no_learning" in page


def test_without_a_stopped_run_nothing_is_marked(tmp_path):
    write_experiment(tmp_path / "e", extras=False)
    assert "STOPPED" not in "".join(path.read_text() for path in write_report(tmp_path / "e"))


@pytest.mark.parametrize(
    ("rates", "verdicts"),
    [
        ({}, ("met", "met", "not distinguishable")),
        ({"causal": 0.9}, ("met", "met", "met")),
        ({"causal": 0.7}, ("met", "met", "not met")),
        ({"prefix_lm": 0.61}, ("not met", "not met", "not distinguishable")),
        ({"prefix_lm": 0.65}, ("not met", "not distinguishable", "not distinguishable")),
        ({"prefix_lm": 0.72}, ("not distinguishable", "met", "not distinguishable")),
    ],
)
def test_criteria_are_met_or_not_when_the_whole_interval_says_so(tmp_path, rates, verdicts):
    table = {**RATES, "sft_prefix": {**RATES["sft_prefix"], **rates}}
    view = view_of(tmp_path / "e", rates=table, extras=False)
    assert tuple(criterion.verdict for criterion in view.criteria) == verdicts
    for criterion, limit in zip(view.criteria, (0.8, 0.05, -0.02), strict=True):
        low, high = criterion.value.low, criterion.value.high
        expected = "met" if low >= limit else "not met" if high < limit else "not distinguishable"
        assert criterion.verdict == expected


def test_recovering_a_baseline_at_chance_is_meaningless(tmp_path):
    low = {"causal": 0.5, "prefix_lm": 0.5, "full": 0.5}
    view = view_of(tmp_path / "e", rates={**RATES, "base": low}, extras=False)
    recovery = view.criteria[0]
    assert (recovery.verdict, recovery.value) == ("meaningless", None)
    assert "not distinguishable from chance" in recovery.notes[0]
    assert view.recovered == ()
    assert any("every ratio to this baseline is meaningless" in line for line in view.summary)
    assert "baseline<br>at chance" in write_report(tmp_path / "e")[0].read_text()


def test_a_tuned_model_at_chance_is_told_even_where_the_ratio_is_high(tmp_path):
    near = {"causal": 0.56, "prefix_lm": 0.5, "full": 0.5}
    tuned = {"causal": 0.56, "prefix_lm": 0.5, "full": 0.5}
    rates = {"base": near, "sft_prefix": tuned}
    view = view_of(tmp_path / "e", rates=rates, extras=False)
    notes = " ".join(view.criteria[0].notes)
    assert "sft_prefix under prefix_lm is not distinguishable from chance" in notes
    assert "skill above chance kept: 0.000" in notes


def test_what_was_not_measured_is_not_judged(tmp_path):
    rates = {**RATES, "sft_prefix": {"full": 0.9}}
    view = view_of(tmp_path / "e", rates=rates, extras=False)
    assert {criterion.verdict for criterion in view.criteria} == {"not measured"}
    assert "sft_prefix" in [model.name for model in view.models]


def test_the_summary_tells_cost_recovery_control_and_regression(view):
    text = " ".join(view.summary)
    for wanted in (
        "The base has a macro accuracy of 0.900 (",
        "Under prefix_lm the base has 0.600 (",
        "the ablation costs 0.300 (",
        "sft_prefix (trained under prefix_lm, 20 of 20 steps) has 0.850 (",
        "+0.250 (",
        "That is 0.944 (",
        "of the baseline's accuracy, and 0.875 (",
        "minus sft_causal (trained under causal, 20 of 40 steps, STOPPED by no_learning) is +0.150",
        "Under causal, sft_prefix has 0.880",
        "it lost 0.020 (",
    ):
        assert wanted in text, wanted


def test_losses_and_gaps_are_those_of_the_log(root, view):
    entries = [
        json.loads(line)
        for line in (one(root, "sft_prefix") / "metrics.jsonl").read_text().splitlines()
    ]
    rows = {row.mask: row for row in view.losses if row.model.name == "sft_prefix"}
    for mask, row in rows.items():
        mine = [e for e in entries if e["kind"] == "eval" and e["mask"] == mask]
        assert (row.first.loss, row.last.loss) == (mine[0]["loss"], mine[-1]["loss"])
        assert row.best.loss == min(e["loss"] for e in mine)
        gap = mine[-1]["decode_loss"] - mine[-1]["teacher_loss"]
        assert row.decoded.gap == pytest.approx(gap)
        assert row.decoded.leaked == (mask == "full")
    (row,) = [row for row in view.training if row.model.name == "sft_causal"]
    assert (row.steps, row.reason, row.trained, row.total) == (
        "20 / 40",
        "no_learning",
        1200,
        35200,
    )


def test_curves_show_each_mask_and_dash_what_decoding_sees(view):
    (curve,) = [one for one in view.curves if one.model.name == "sft_prefix"]
    lines = {line.label: line for line in curve.chart.lines}
    assert lines["training loss"].quiet
    assert lines["full"].hollow
    assert not lines["causal"].dashed
    assert lines["causal, token by token"].dashed
    assert len(lines["causal"].dots) == 3
    # A sweep has its own plot.
    assert [one.model.name for one in view.curves] == ["sft_causal", "sft_prefix"]


def test_a_dose_is_a_curve_over_counts(view):
    (dose,) = view.doses
    assert [row.count for row in dose.rows] == [0, 1, 2]
    assert [row.macro.accuracy.value for row in dose.rows] == pytest.approx([0.9, 0.8, 0.7])
    assert dose.rows[2].difference.value.value == pytest.approx(-0.2)
    assert len(dose.charts) == 1 + 2
    assert len(dose.charts[0].lines[0].bars) == 3
    # Its masks are no columns of the matrix.
    assert [column.mask for column in view.columns] == ["causal", "prefix_lm", "full"]


def test_a_sweep_is_sorted_by_value_with_lowest_and_last_loss(view):
    (sweep,) = view.sweeps
    assert [row.value for row in sweep.rows] == ["1e-05", "0.0001"]
    assert [row.best.loss for row in sweep.rows] == pytest.approx([2.8, 1.9])
    assert [row.last.loss for row in sweep.rows] == pytest.approx([2.85, 1.95])
    assert len(sweep.charts) == 1


def test_equal_results_give_equal_bytes_whatever_the_times(root, pages, tmp_path):
    assert tuple(path.read_text() for path in write_report(root)) == pages
    more = {
        "created": "1999-01-01T00:00:00Z",
        "finished": "1999-01-02T00:00:00Z",
        "seconds": 99.5,
        "attempts": [{"attempt": n, "started": "1999", "reason": "OOM"} for n in (1, 2, 3)],
    }
    write_experiment(tmp_path / "elsewhere" / "two", stopped=STOPPED, more=more)
    for summary in (tmp_path / "elsewhere" / "two").glob("*/summary.json"):
        edit(summary, lambda table: table.update(rates={"tokens_per_s": 1.0}))
    assert tuple(p.read_text() for p in write_report(tmp_path / "elsewhere" / "two")) == pages


def test_the_pages_hold_no_time_no_rate_and_no_absolute_path(root, pages):
    for page in pages:
        assert str(root) not in page
        assert not re.search(r"/somewhere|/far/away|12345|2026-|\battempt", page)
        assert "KeyboardInterrupt" not in page
    assert ".../data" in pages[0]


def test_the_appendix_names_what_identifies_each_run(root, view):
    assert len(view.runs) == 8
    text = {entry["id"]: dict(entry["facts"]) for entry in view.runs}
    manifest = json.loads((one(root, "sft_prefix") / "manifest.json").read_text())
    facts = text[one(root, "sft_prefix").name]
    assert facts["config fingerprint"] == manifest["fingerprint"]
    assert "train.digest: data digest" in facts["data"]
    scored = text[one(root, "score_sft_prefix").name]
    assert scored["made by run"] == one(root, "sft_prefix").name
    assert "digest: rows of piqa" in scored["data piqa"]


def test_runs_that_are_not_done_are_named_and_are_in_no_table(tmp_path):
    root = write_experiment(tmp_path / "e", extras=False)
    edit(one(root, "score_sft_causal") / "manifest.json", lambda t: t.update(status="running"))
    edit(one(root, "sft_causal") / "manifest.json", lambda t: t.update(status="interrupted"))
    view = build_overview(load_experiment(root))
    assert [model.name for model in view.models] == ["base", "sft_prefix"]
    assert [row.model.name for row in view.training] == ["sft_prefix"]
    told = " ".join(view.warnings)
    assert f"{one(root, 'sft_causal').name} is interrupted" in told
    assert f"{one(root, 'score_sft_causal').name} is running" in told


def test_an_experiment_without_finetuning_is_reported_too(tmp_path):
    root = write_experiment(tmp_path / "e", rates={"base": RATES["base"]}, extras=False)
    edit(root / "experiment.json", lambda table: table.pop("criteria"))
    page = write_report(root)[0].read_text()
    assert "the ablation costs 0.300" in page
    assert 'id="training"' not in page


def _stage(table, name):
    return next(stage for stage in table["stages"] if stage["name"] == name)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.update(format=2), "has format 2, this version reads 1"),
        (lambda t: t.pop("stages"), "has no 'stages'"),
        (lambda t: t["stages"][0].update(kind=3), r"stages\[0\].kind must be of type str"),
        (lambda t: t["criteria"].update(recovery="x"), "criteria.recovery must be of type float"),
        (lambda t: t["criteria"].update(tuned="sft_prefx"), "did you mean 'sft_prefix'"),
        (lambda t: _stage(t, "sft_causal").update(run="gone-1"), "gone-1: no such run folder"),
        (lambda t: _stage(t, "sft_causal").update(run="../x"), "outside of the experiment"),
        (lambda t: _stage(t, "sft_causal").update(run="/etc"), "outside of the experiment"),
        (lambda t: _stage(t, "score_base").update(model="bse"), "did you mean 'base'"),
        (lambda t: _stage(t, "score_base").update(model="sft_causal"), "its run scored the base"),
        (lambda t: _stage(t, "score_sft_causal").update(model="base"), "it scored the base"),
        (lambda t: _stage(t, "dose")["dose"].update(counts=[1]), "1 counts for 3 masks"),
        (lambda t: _stage(t, "dose")["dose"].update(masks=["dse 0"] * 3), "did you mean 'dose 0'"),
        (lambda t: _stage(t, "rate_1e-05")["sweep"].pop("value"), "sweep without a value"),
        (lambda t: _stage(t, "dose").update(name="made2", kind="finetune"), "holds a run of"),
        (lambda t: t["stages"].append(t["stages"][1]), "two stages are named 'sft_causal'"),
    ],
)
def test_an_experiment_that_is_not_as_it_should_be_is_refused_by_name(root, tmp_path, change, told):
    shutil.copytree(root, tmp_path / "e")
    edit(tmp_path / "e" / "experiment.json", change)
    with pytest.raises(UserError, match=told):
        write_report(tmp_path / "e")
