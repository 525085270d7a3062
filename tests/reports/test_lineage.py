"""How a model of an experiment came to be."""

import json

import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.files import write_json
from jaxablate.reports.lineage import load_lineage
from tests.reports.experiments import made_by
from tests.reports.pretrainings import write_pretraining, write_reference


@pytest.fixture
def root(tmp_path):
    return write_reference(tmp_path / "ref", items=20)


def edit(path, change):
    table = json.loads(path.read_text())
    change(table)
    write_json(path, table)


def run_of(root, stage):
    return next(path for path in root.iterdir() if path.name.startswith(f"{stage}-"))


def test_a_model_goes_back_to_the_first_training_and_has_its_own_evaluations(root):
    found = load_lineage(root, "instruct")
    assert [one.stage for one in found.trainings] == ["text", "instruct"]
    assert [one.title for one in found.evaluations] == ["Scores", "Instruments"]
    assert found.model.stage == "instruct"
    first = load_lineage(root, "text")
    assert [one.stage for one in first.trainings] == ["text"]
    assert first.evaluations == ()


def test_a_stage_that_there_is_not_is_refused_with_those_there_are(root):
    with pytest.raises(UserError, match=r"'instrukt'.*did you mean 'instruct'"):
        load_lineage(root, "instrukt")


def test_a_training_that_is_not_done_is_refused(root):
    edit(run_of(root, "text") / "manifest.json", lambda m: m.update(status="interrupted"))
    with pytest.raises(UserError, match="is interrupted, wanted a run that is done"):
        load_lineage(root, "instruct")


def test_a_training_that_went_on_from_elsewhere_is_refused(root, tmp_path):
    other = write_pretraining(tmp_path / "elsewhere")
    path = run_of(root, "instruct") / "manifest.json"
    edit(path, lambda manifest: manifest.update(source=made_by(other)))
    with pytest.raises(UserError, match="run elsewhere, which is not in this experiment"):
        load_lineage(root, "instruct")


def test_a_training_that_went_on_from_itself_is_refused(root):
    path = run_of(root, "instruct")
    edit(path / "manifest.json", lambda manifest: manifest.update(source=made_by(path)))
    with pytest.raises(UserError, match="went on from itself"):
        load_lineage(root, "instruct")
