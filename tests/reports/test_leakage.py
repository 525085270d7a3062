"""A leakage probe in a report: every mask with its verdict; nothing of a run that is not done."""

import pytest

from jaxablate.core.errors import UserError
from jaxablate.core.files import read_json, write_json
from jaxablate.reports.experiment import write_report
from jaxablate.reports.leakage import load_leaks
from tests.reports.experiments import write_experiment


def write_probe(folder, *, status="done", **changed):
    """A probe's run of an honest mask and of one that leaks."""
    folder.mkdir(parents=True)
    write_json(
        folder / "manifest.json",
        {"format": 1, "id": folder.name, "kind": "probe", "status": status, "config": {}},
    )
    sizes = {"prompt_change": 0.5, "teacher_forced_loss": 4.0, "decode_loss": 4.0}
    results = [
        {"name": "causal", "leaks": False, "future_change": 0.0, **sizes},
        {"name": "full<b>", "leaks": True, "future_change": 2.25, **sizes, **changed},
    ]
    write_json(folder / "metrics.json", {"format": 1, "probe": "leakage", "results": results})
    return folder


def test_every_mask_is_read_with_its_verdict(tmp_path):
    honest, leaky = load_leaks(write_probe(tmp_path / "leaks", decode_loss=9.5), "base")
    assert (honest.model, honest.mask, honest.leaks) == ("base", "causal", False)
    assert (leaky.leaks, leaky.future_change, leaky.one_pass, leaky.decoded) == (
        True, 2.25, 4.0, 9.5,
    )  # fmt: skip


def test_a_run_that_is_not_done_has_no_results(tmp_path):
    assert load_leaks(write_probe(tmp_path / "leaks", status="running"), "base") == ()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"future_change": None}, r"results\[1\].future_change must be of type float"),
        ({"leaks": "no"}, r"results\[1\].leaks must be of type bool"),
    ],
)
def test_damaged_results_are_refused(tmp_path, changed, told):
    with pytest.raises(UserError, match=told):
        load_leaks(write_probe(tmp_path / "leaks", **changed), "base")


def test_the_report_of_an_experiment_shows_them(tmp_path):
    root = write_experiment(tmp_path / "x")
    write_probe(root / "leaks-abcdef")
    table = read_json(root / "experiment.json")
    entry = {"name": "leaks", "kind": "probe", "model": "sft_prefix", "run": "leaks-abcdef"}
    write_json(root / "experiment.json", {**table, "stages": [*table["stages"], entry]})
    page, text = (path.read_text() for path in write_report(root))
    assert "full&lt;b&gt;" in page
    assert "full<b>" not in page
    for shown in (page, text):
        section = shown[shown.index("Leakage probe") :]
        assert "LEAKY" in section
        assert "2.25" in section
        assert section.index("causal") < section.index("no bit moved") < section.index("2.25")
