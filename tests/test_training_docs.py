"""What docs/training.md shows works: its settings, its records, its commands and its Python."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxablate.cli import main
from jaxablate.core.config import build
from jaxablate.core.settings import parse_yaml, read_settings
from jaxablate.data.records import read_rows
from jaxablate.data.sft_config import check_data
from jaxablate.training.config import FinetuneConfig

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "finetune.md").read_text()


def blocks(language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [content for name, content in fenced if name == language]


def commands():
    lines = [line.partition("  #")[0] for block in blocks("bash") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("jaxablate ")]


@pytest.mark.parametrize("text", blocks("yaml"), ids=["large", "frozen"])
def test_settings_of_the_page_are_settings(text):
    assert build(FinetuneConfig, parse_yaml(text, "docs/training.md")).steps >= 100


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "finetune").glob("*.yaml")))
def test_configs_of_finetuning_name_data_that_is_there(path):
    check_data(build(FinetuneConfig, read_settings([path])).data)


@pytest.mark.parametrize("text", blocks("json"), ids=["alpaca", "messages"])
def test_records_of_the_page_are_records(text):
    assert len(read_rows([json.loads(text)], "train", where="", origin="").rows) == 1


def test_the_table_of_stop_reasons_is_complete():
    from jaxablate.runs.stop_rules import REASONS

    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) >= set(REASONS)


@pytest.mark.slow
def test_commands_and_python_of_the_page_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    asked = commands()
    assert {words[0] for words in asked} == {"finetune", "eval", "convert", "runs", "tail"}
    assert [main(words) for words in asked] == [0] * len(asked)
    assert (tmp_path / "runs" / "first-hf" / "model.safetensors").is_file()
    (code,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 7
