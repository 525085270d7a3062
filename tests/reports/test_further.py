"""Reports of models trained from nothing, and of scores beside the matrix."""

import json
import shutil

import pytest

from jaxablate.cli.entry import main
from jaxablate.core.errors import UserError
from jaxablate.core.files import write_json
from jaxablate.reports.experiment import load_experiment
from jaxablate.reports.finetune import load_finetune
from jaxablate.reports.overview import build_overview
from tests.reports.folders import write_run
from tests.reports.pretrainings import write_pretraining, write_reference


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_reference(tmp_path_factory.mktemp("report") / "ref", items=40)


@pytest.fixture(scope="module")
def view(root):
    return build_overview(load_experiment(root))


def edit(root, change):
    table = json.loads((root / "experiment.json").read_text())
    change(table["stages"])
    write_json(root / "experiment.json", table)


def test_the_base_is_what_a_stage_made_and_is_no_model_beside_itself(view):
    assert [model.name for model in view.models] == ["base"]
    assert {result.condition.model for result in view.macro} == {"base"}
    assert [row.model.name for row in view.training] == ["text", "instruct"]


def test_other_tasks_stand_apart_and_in_no_mean(view):
    assert view.tasks == ("piqa", "arc_easy")
    assert {result.num_items for result in view.macro} == {80}
    told = [(row.task, row.condition.mask) for row in view.further]
    assert told == [
        ("recall", "causal"),
        ("recall", "prefix_lm"),
        ("null_mcq", "causal"),
        ("null_mcq", "prefix_lm"),
    ]
    assert not any("more than once" in warning for warning in view.warnings)


def test_the_text_stands_with_shares_and_epochs(view):
    (text,) = view.texts
    assert text.model.name == "text"
    assert text.epochs == pytest.approx(1280 / 10_000)
    assert [one.name for one in text.sources][:2] == ["books", "arc_easy"]
    assert text.dropped == 5


def test_losses_have_a_perplexity_and_curves_the_tokens_of_a_step(view):
    told = {row.model.name: row.last.perplexity for row in view.losses}
    assert told["text"] == pytest.approx(54.598, abs=1e-3)
    charts = {one.model.name: one.chart for one in view.curves}
    assert charts["text"].x_label == "step of 64 tokens"
    assert charts["instruct"].x_label == "step"
    assert charts["text"].y_ticks != charts["instruct"].y_ticks


def test_a_loss_beyond_every_number_has_no_perplexity(tmp_path):
    run = load_finetune(write_pretraining(tmp_path / "r", losses=(1e6,)))
    assert run.measured("causal")[0].perplexity is None


def test_both_files_show_text_and_further_tasks(root, tmp_path):
    assert main(["report", str(root), "--out", str(tmp_path / "r")]) == 0
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert "## Further tasks" in text
    assert "| base | made by run instruct-" in text
    assert "| checkpoint | none: trained from nothing |" in text
    assert "| books | 40 | 6,000 | 1 | 60.0 % | 0 |" in text
    assert "| text | causal | 20 / 20 | 1,280 |" in text
    assert "9.000 at 0 | 4.000 at 20 | 4.000 at 20 | 54.60 |" in text
    assert "<h3>Text of text</h3>" in page
    assert "null_mcq" in page


def test_a_pretraining_that_is_scored_under_its_own_name_is_the_base(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "ref")
    path = next(copy.glob("scores-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    run = next(copy.glob("text-*")).name
    write_json(path, manifest | {"source": {**manifest["source"], "run": run}})

    def only_text(stages):
        stages[:] = [stages[0], {**stages[2], "model": "text"}]

    edit(copy, only_text)
    view = build_overview(load_experiment(copy))
    assert [model.name for model in view.models] == ["base"]
    assert "macro accuracy" in view.summary[0]


def test_an_evaluation_of_the_base_that_scored_another_run_is_refused(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "ref")
    path = next(copy.glob("scores-*")) / "manifest.json"
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"source": {"path": "some/model"}})
    with pytest.raises(UserError, match="says that it scored the base"):
        load_experiment(copy)


def test_a_pretraining_among_loose_runs_is_the_base_of_its_evaluations(tmp_path):
    text = write_pretraining(tmp_path / "text")
    source = {"format": "jaxablate-finetuned", "run": "text", "stop_reason": "finished"}
    right = {"causal": {"piqa": [True, False] * 10}}
    scored = write_run(tmp_path / "scored", right, source=source, config={"checkpoint": str(text)})
    words = ["report", str(text), str(scored), "--out", str(tmp_path / "r")]
    assert main(words) == 0
    told = (tmp_path / "r.md").read_text()
    assert told.startswith("# text trained under attention masks\n")
    assert "| base | - |" in told
    assert "macro accuracy of 0.500" in told


def test_runs_and_tail_tell_of_a_pretraining(tmp_path, capsys):
    folder = write_pretraining(tmp_path / "text")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["done"], told["planned"]) == ("pretrain", 20, 20)
    assert main(["tail", str(folder), "-n", "1"]) == 0
    assert "step 20" in capsys.readouterr().out
