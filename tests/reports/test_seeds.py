"""Reports of several seeds: means, intervals that hold the spread, sweeps, instruments, origins."""

import json

import pytest

from jaxablate.core.files import write_json
from jaxablate.reports.experiment import load_experiment, write_report
from jaxablate.reports.overview import build_overview
from tests.reports.experiments import made_by
from tests.reports.folders import write_finetune, write_run

ITEMS, SEEDS = 200, (0, 1, 2)
INSTRUMENTS = {"recall": {"instrument": True}, "null": {"instrument": True, "canary": True}}


def right(count):
    return [(7 * index) % ITEMS < count for index in range(ITEMS)]


def mark(folder):
    """Say in metrics.json which tasks are instruments."""
    path = folder / "metrics.json"
    table = json.loads(path.read_text())
    for result in table["results"]:
        for task in result["tasks"]:
            task.update(INSTRUMENTS.get(task["task"], {}))
        plain = [t for t in result["tasks"] if t["task"] not in INSTRUMENTS]
        if plain:
            (measure,) = plain[0]["measures"].values()
            chance = result["macro"]["primary"]["chance"]
            result["macro"]["primary"] = {**measure, "chance": chance}
    write_json(path, table)


class Study:
    """Stages of an experiment as they are written."""

    def __init__(self, root):
        self.root, self.stages = root, []
        root.mkdir()

    def add(self, kind, name, model, *, seed=None, **entry):
        group = {} if seed is None else {"seed": seed, "group": name}
        full = name if seed is None else f"{name}_s{seed}"
        stage = {"name": full, "kind": kind, "model": model, "run": f"{full}-abcdef", "needs": []}
        self.stages.append({**stage, "title": name, **group, **entry})
        return self.root / stage["run"]

    def train(self, name, *, seeds=SEEDS, targets=1000, learns="", **entry):
        for seed in seeds:
            folder = self.add("finetune", name, "base", seed=seed, **entry)
            losses = {"prefix_lm": [3.0, 2.0 + 0.1 * seed, 2.0 - 0.2 * seed]}
            write_finetune(folder, losses, planned=20)
            edit(folder / "summary.json", targets_seen=targets + seed)
            config = {"checkpoint": "some/model", "data": {"name": learns}, "seed": seed}
            edit(folder / "manifest.json", config=config)

    def score(self, name, model, counts, *, seed=None, **entry):
        """`counts[mask][task]` are numbers of right answers."""
        trained = model != "base"
        maker = f"{model}_s{seed}" if trained else "base"
        folder = self.add("evaluate", name, maker, seed=seed, **entry)
        made = made_by(self.root / f"{maker}-abcdef") if trained else {"weights": "w" * 64}
        answers = {m: {t: right(n) for t, n in tasks.items()} for m, tasks in counts.items()}
        write_run(folder, answers, source=made)
        mark(folder)

    def write(self):
        criteria = {"tuned": "tuned", "mask": "prefix_lm", "recovery": 0.8, "gain": 0.05}
        table = {"format": 1, "name": "seeds", "stages": self.stages, "criteria": criteria}
        write_json(self.root / "experiment.json", table)
        return self.root


def edit(path, **changes):
    write_json(path, json.loads(path.read_text()) | changes)


def tasks(piqa, recall=100, null=100):
    return {"piqa": piqa, "recall": recall, "null": null}


def write_study(root, *, control=1000):
    study = Study(root)
    study.train("control", targets=control)
    study.train("tuned")
    study.train("expert", learns="recall")
    study.train("apart")
    for value in (25, 100):
        sweep = {"setting": "steps", "value": value, "group": "more"}
        study.train(f"more-{value}", sweep=sweep)
    study.score("base", "base", {"causal": tasks(180, 200), "prefix_lm": tasks(110, 110)})
    for seed in SEEDS:
        study.score("c", "control", {"prefix_lm": tasks(120)}, seed=seed)
        study.score("t", "tuned", {"prefix_lm": tasks(160 + 8 * seed, 150)}, seed=seed)
        study.score("e", "expert", {"prefix_lm": {"recall": 190, "null": 150}}, seed=seed)
        masks = {"causal": {"elsewhere": 120 + seed}, "prefix_lm": {"elsewhere": 100}}
        study.score("a", "apart", masks, seed=seed)
        for value in (25, 100):
            counts = {"prefix_lm": {"piqa": 120 + value // 5 + seed}}
            study.score(f"scored-{value}", f"more-{value}", counts, seed=seed)
        dose = {"axis": "layers", "counts": [0, 1], "masks": ["none", "one"]}
        counts = {"none": {"piqa": 170 + seed}, "one": {"piqa": 150 - seed}}
        study.score("d", "tuned", counts, seed=seed, dose=dose)
    return study.write()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("seeds") / "one")


@pytest.fixture(scope="module")
def view(root):
    return build_overview(load_experiment(root))


@pytest.fixture(scope="module")
def pages(root):
    return tuple(path.read_text() for path in write_report(root))


def found(view, model, mask="prefix_lm"):
    (result,) = [r for r in view.macro if (r.condition.model, r.condition.mask) == (model, mask)]
    return result


def test_a_cell_is_the_mean_over_seeds_and_its_interval_holds_their_spread(view):
    tuned, control = found(view, "tuned").accuracy, found(view, "control").accuracy
    assert tuned.value == pytest.approx(168 / ITEMS)
    assert tuned.seeds == pytest.approx([0.80, 0.84, 0.88])
    assert tuned.deviation == pytest.approx(0.04)
    # Student's t of two degrees of freedom: 4.3 times the error of the mean, and the questions.
    assert tuned.high - tuned.low > 2 * 4.3 * 0.04 / 3**0.5
    assert control.deviation == 0
    assert control.high - control.low < 0.16


def test_a_model_of_several_seeds_is_one_row_and_sweeps_and_experts_are_none(view):
    assert [model.name for model in view.models] == ["base", "control", "tuned"]
    assert [one.model.name for one in view.curves] == ["control", "tuned", "expert", "apart"]
    assert [row.model.name for row in view.training[:2]] == ["control", "tuned"]


def test_differences_to_the_base_and_to_the_control_tell_the_seeds(view):
    (recovery, gain) = view.criteria
    assert recovery.value.value == pytest.approx(168 / 180)
    assert recovery.value.seeds == pytest.approx([160 / 180, 168 / 180, 176 / 180])
    assert gain.value.value == pytest.approx((168 - 110) / ITEMS)
    told = " ".join(view.summary)
    assert "3 seeds: 0.800 to 0.880" in told
    assert "under causal over 1 task;" in told
    rows = [row for table in view.comparisons for row in table.rows]
    (control,) = [row for row in rows if row.against.model == "control" and row.task == "piqa"]
    assert control.value.seeds == pytest.approx([0.20, 0.24, 0.28])
    assert control.p_value < 0.05
    assert not {row.task for row in rows} & set(INSTRUMENTS)


def test_losses_are_means_over_seeds_with_the_ends_beside_them(view):
    (row,) = [row for row in view.losses if row.model.name == "tuned"]
    assert row.last.loss == pytest.approx((2.0 + 1.8 + 1.6) / 3)
    assert row.last.seeds == pytest.approx((2.0, 1.8, 1.6))
    (curve,) = [one for one in view.curves if one.model.name == "tuned"]
    (line,) = [line for line in curve.chart.lines if line.label == "prefix_lm"]
    assert len(line.bars) == 3


def test_single_seeds_are_in_a_table_of_their_own(view, pages):
    names = [row.training.model.name for row in view.seeds]
    assert names[:4] == ["control, seed 0", "control, seed 1", "control, seed 2", "tuned, seed 0"]
    assert "0.800, 0.840, 0.880" in pages[0]
    assert "0.800, 0.840, 0.880" in pages[1]


def test_what_was_scored_on_other_tasks_alone_is_one_row_for_all_seeds_and_not_in_the_matrix(view):
    found = [(row.condition.model, row.task, row.condition.mask) for row in view.further]
    assert found == [("apart", "elsewhere", "causal"), ("apart", "elsewhere", "prefix_lm")]
    assert view.further[0].accuracy.seeds == pytest.approx([0.6, 0.605, 0.61])
    assert "apart" not in [model.name for model in view.models]


def test_a_sweep_shows_recovery_for_each_value_as_table_and_chart(view):
    (sweep,) = view.sweeps
    assert [column.mask for column in sweep.columns] == ["prefix_lm"]
    assert [row.value for row in sweep.rows] == ["25", "100"]
    (low,), (high,) = (row.scores for row in sweep.rows)
    assert low[0].accuracy.value == pytest.approx(126 / ITEMS)
    assert high[1].recovery.value == pytest.approx(141 / 180)
    assert high[1].recovery.low < 141 / 180 < high[1].recovery.high
    assert [chart.title for chart in sweep.charts] == [
        "Held-out loss by steps",
        "Recovery by steps",
    ]
    assert len(sweep.charts[1].lines[0].bars) == 2


def test_a_sweep_over_words_has_a_table_and_no_chart(tmp_path):
    root = write_study(tmp_path / "e")
    table = json.loads((root / "experiment.json").read_text())
    for stage in table["stages"]:
        if "sweep" in stage:
            word = {25: "bfloat16", 100: "float32"}[stage["sweep"]["value"]]
            stage["sweep"].update(setting="step.master_dtype", value=word)
    write_json(root / "experiment.json", table)
    (sweep,) = build_overview(load_experiment(root)).sweeps
    assert [row.value for row in sweep.rows] == ["bfloat16", "float32"]
    assert sweep.charts == ()
    assert sweep.rows[0].scores[0][1].recovery is not None


def test_instruments_are_apart_with_what_is_kept_and_a_canary_tells_of_leaks(view, pages):
    assert view.tasks == ("piqa",)
    rows = {(r.result.condition.model, r.result.condition.mask): r for r in view.instruments}
    assert {r.result.task for r in view.instruments} == {"recall"}
    expert = rows["expert", "prefix_lm"]
    assert expert.learned
    assert not rows["tuned", "prefix_lm"].learned
    assert expert.difference.retention.value == pytest.approx((190 - 100) / (200 - 100))
    verdicts = {(r.condition.model, r.condition.mask): r.verdict for r in view.canaries}
    assert verdicts["tuned", "prefix_lm"] == "at chance, as it must be"
    assert verdicts["expert", "prefix_lm"] == "ABOVE CHANCE: the scoring leaks"
    assert any("null under prefix_lm: expert" in line for line in view.warnings)
    assert "ABOVE CHANCE: the scoring leaks" in pages[0]


def test_a_dose_of_several_seeds_is_one_curve(view):
    (dose,) = view.doses
    assert [row.count for row in dose.rows] == [0, 1]
    assert [row.macro.accuracy.value for row in dose.rows] == pytest.approx([0.855, 0.745])
    assert dose.rows[1].difference.value.seeds == pytest.approx([-0.10, -0.11, -0.12])
    assert len(dose.charts[0].lines) == 1


def test_every_run_folder_is_named_with_what_it_is_shown_in(root, view, pages):
    runs = [row.run for row in view.origins]
    table = json.loads((root / "experiment.json").read_text())
    assert sorted(runs) == sorted(stage["run"] for stage in table["stages"])
    (row,) = [row for row in view.origins if row.run == "t_s1-abcdef"]
    assert row.figure == "scores: tuned, seed 1 under prefix_lm"
    assert row.weights == "w" * 12
    assert all(run in pages[0] for run in runs)


def test_the_matrix_says_how_much_each_model_saw(pages):
    assert all("20 / 20 steps, 1,001 targets" in page for page in pages)
    assert "| control | prefix\\_lm, 20 / 20 steps, 1,001 targets |" in pages[1]


def test_unequal_budgets_are_told(tmp_path, view):
    assert not [line for line in view.warnings if line.startswith("Budget")]
    unequal = build_overview(load_experiment(write_study(tmp_path / "e", control=980)))
    (line,) = [line for line in unequal.warnings if line.startswith("Budget")]
    assert "control saw 981 targets, tuned 1,001 (-2.0%)" in line


def test_methods_say_what_an_interval_holds(view):
    assert any("Student's t" in line for line in view.methods)


def test_seeds_that_are_not_done_yet_are_left_out(tmp_path):
    root = write_study(tmp_path / "e")
    edit(root / "t_s2-abcdef" / "manifest.json", status="running")
    view = build_overview(load_experiment(root))
    assert found(view, "tuned").accuracy.seeds == pytest.approx([0.80, 0.84])
    assert any("t_s2-abcdef is running" in line for line in view.warnings)
