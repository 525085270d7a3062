"""The benchmark rows that come with the package: real rows, under their own licences."""

import pytest

from jaxablate.data.sources import load_rows, source
from jaxablate.evaluation.config import BENCHMARKS, EvalConfig
from jaxablate.evaluation.prepare import prepare
from jaxablate.evaluation.task import find_task, render_rows
from tests.evaluation.fake import fake_lm

TASKS = sorted(path.name for path in BENCHMARKS.iterdir() if path.is_dir())
PAGE = (BENCHMARKS / "README.md").read_text()


def test_every_public_benchmark_is_there():
    assert TASKS == ["arc_challenge", "arc_easy", "hellaswag", "piqa", "winogrande"]


@pytest.mark.parametrize("name", TASKS)
def test_sixty_different_rows_can_be_asked(name):
    rows = load_rows(name, "validation", folder=BENCHMARKS)
    items, skipped = render_rows(find_task(name), "standard", rows, "validation")
    assert (len(items), skipped) == (60, 0)
    assert len({(item.contexts, item.continuations) for item in items}) == 60
    assert len({item.label for item in items}) == len(items[0].continuations)


@pytest.mark.parametrize("name", TASKS)
def test_their_page_names_home_and_licence(name):
    (line,) = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line]
    about = source(name)
    assert about.home in line
    assert about.licence.replace("-", "").lower() in line.replace("-", "").replace(" ", "").lower()


def test_a_run_says_that_they_are_bundled_and_keeps_their_licence(tmp_path):
    config = EvalConfig(checkpoint="x", tasks=("piqa", "arc_easy"), data="benchmarks", limit=3)
    piqa, arc = (task.data for task in prepare(fake_lm(tmp_path / "lm"), config))
    assert (piqa["origin"], piqa["licence"]) == ("bundled benchmarks", "AFL-3.0")
    assert (arc["origin"], arc["licence"]) == ("bundled benchmarks", "CC-BY-SA-4.0")
    assert (piqa["rows_in_split"], piqa["rows"], piqa["home"]) == (60, 3, source("piqa").home)
