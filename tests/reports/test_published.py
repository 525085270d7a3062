"""Published claims beside an experiment's numbers."""

import pytest

from jaxablate.cli.entry import main
from jaxablate.core.errors import UserError
from jaxablate.reports.experiment import load_experiment
from jaxablate.reports.overview import build_overview
from jaxablate.reports.published import read_published
from tests.reports.experiments import write_experiment

HEAD = """
title: What went wrong
claims:
  - claim: A claim | with <marks>
    source: a table
    published: {causal: "0.695"}
    cause: The score leaked.
    measured:
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("published") / "e", items=200)


@pytest.fixture
def study(root):
    return load_experiment(root)


def claims(tmp_path, *rows):
    path = tmp_path / "claims.yaml"
    path.write_text(HEAD + "".join(f"      - {{label: x, {row}}}\n" for row in rows))
    return path


def measured(study, tmp_path, *rows):
    view = build_overview(study, read_published(claims(tmp_path, *rows)))
    (told,) = view.beside.claims
    return told.measured


def test_every_number_is_the_experiments_own_with_its_runs(study, tmp_path):
    accuracy, task, kept, recovery, leaky = measured(
        study,
        tmp_path,
        "mask: causal",
        "mask: prefix_lm, task: piqa",
        "model: sft_prefix, mask: prefix_lm, what: kept",
        "model: sft_prefix, mask: prefix_lm, what: recovery",
        "mask: full",
    )
    assert accuracy.value.value == pytest.approx(0.9)
    assert accuracy.value.low < 0.9 < accuracy.value.high
    assert accuracy.chance == pytest.approx(0.5)
    assert accuracy.runs[0].startswith("score_base-")
    assert task.value.value == pytest.approx(0.6)
    assert kept.value.value == pytest.approx((0.85 - 0.5) / (0.9 - 0.5))
    assert recovery.value.value == pytest.approx(0.85 / 0.9)
    assert [one.leaky for one in (accuracy, task, kept, leaky)] == [False, False, False, True]


def test_losses_are_the_first_last_and_lowest_and_the_gap_to_reading_one_by_one(study, tmp_path):
    names = ("first_loss", "last_loss", "lowest_loss", "leakage_gap")
    rows = [f"model: sft_prefix, mask: full, what: {name}" for name in names]
    found = measured(study, tmp_path, *rows)
    assert [one.value.value for one in found] == pytest.approx([2, 0.5, 0.5, 2.2 - 0.5])
    assert found[3].what.startswith("leakage gap at step")
    assert found[0].runs[0].startswith("sft_prefix-")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("mask: causl", "did you mean 'causal'"),
        ("model: sft, mask: causal", "unknown model 'sft'"),
        ("mask: causal, task: pica", "did you mean 'piqa'"),
        ("mask: causal, what: kept", "another baseline"),
        ("mask: full, what: recovery", "honest score"),
        ("mask: prefix_lm, what: kept, task: piqa", "over all tasks"),
        ("mask: causal, what: last_loss", "base was not trained here"),
        ("model: sft_prefix, mask: none, what: last_loss", "unknown mask"),
        ("mask: causal, what: los", "one of accuracy"),
        ("mask: causal, value: 0.3", "unknown setting"),
    ],
)
def test_what_the_experiment_has_not_is_one_sentence(study, tmp_path, row, words):
    with pytest.raises(UserError, match=words) as error:
        measured(study, tmp_path, row)
    assert "\n" not in str(error.value)


def test_the_report_shows_both_and_escapes_the_file(root, tmp_path, capsys):
    path = claims(tmp_path, "mask: causal")
    assert main(["report", str(root), "--beside", str(path), "--out", str(tmp_path / "r")]) == 0
    text, page = ((tmp_path / f"r.{end}").read_text() for end in ("md", "html"))
    assert "## What went wrong" in text
    assert "Published (a table): causal 0.695." in text
    assert "A claim \\| with \\<marks\\>" in text
    assert "The score leaked." in text
    assert "A claim | with &lt;marks&gt;" in page
    capsys.readouterr()


def test_a_run_alone_has_nothing_beside_which_claims_could_stand(root, tmp_path, capsys):
    (run,) = root.glob("score_base-*")
    path = claims(tmp_path, "mask: causal")
    assert main(["report", str(run), "--beside", str(path)]) == 2
    assert "--beside needs the folder of an experiment" in capsys.readouterr().err
