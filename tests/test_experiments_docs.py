"""The file that docs/experiments.md shows is an experiment, and its commands are commands."""

import re
from pathlib import Path

import pytest

from jaxablate.cli import main
from jaxablate.core.settings import parse_yaml
from jaxablate.experiments.plan import make_plan

TEXT = (Path(__file__).parents[1] / "docs" / "how-to" / "study.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_shown_file_is_an_experiment_of_every_kind():
    (text,) = blocks("yaml")
    jobs = {job.name: job for job in make_plan(parse_yaml(text, "docs"), "root").jobs()}
    assert jobs["scored"].model == "after"
    assert {"layers", "rates-1e-05", "rates-5e-05"} <= set(jobs)


@pytest.mark.parametrize("line", "".join(blocks("bash")).splitlines())
def test_the_shown_commands_are_understood(line, capsys, monkeypatch, tmp_path):
    words = line.partition("#")[0].split()[1:]
    repository = Path(__file__).parents[1]
    words = [str(repository / word) if word.startswith("configs/") else word for word in words]
    (tmp_path / "sft.yaml").write_text("checkpoint: some/model\nsteps: 3\n")
    monkeypatch.chdir(tmp_path)
    listing = [] if "--list" in words else ["--list"]
    assert main([*words, *listing]) == 0
    assert "new" in capsys.readouterr().out
