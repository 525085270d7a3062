"""The table of texts of a pretraining, out of its manifest."""

import pytest

from jaxablate.core.errors import UserError
from jaxablate.reports.finetune import load_finetune
from jaxablate.reports.text_sources import text_sources
from tests.reports.folders import write_finetune
from tests.reports.pretrainings import SOURCES, records_of, write_pretraining


@pytest.fixture
def found(tmp_path):
    run = load_finetune(write_pretraining(tmp_path / "r"))
    return {one.name: one for one in text_sources(run)}


def test_shares_are_of_the_tokens_of_an_epoch_with_copies_and_without_what_is_held_out(found):
    epoch = 6000 + 3 * (1100 - 100) + 1000
    shares = {name: one.share for name, one in found.items()}
    assert shares == pytest.approx(
        {"books": 6000 / epoch, "arc_easy": 3000 / epoch, "recall-1": 1000 / epoch}
        | {"wikitext-2-validation": 0}
    )
    assert [one.held_out for one in found.values()] == [False, False, False, True]


def test_what_was_cut_out_is_counted_by_benchmark(found):
    assert found["arc_easy"].dropped == (("arc_easy", 4), ("piqa", 1))
    assert (found["arc_easy"].total_dropped, found["books"].total_dropped) == (5, 0)


def test_a_benchmark_has_its_home_and_its_licence_where_the_config_gives_none(tmp_path):
    sources = {"piqa": ("task", 9, 100, 0, 1, "", {}), "mine": ("files", 9, 100, 0, 1, "", {})}
    piqa, mine = text_sources(load_finetune(write_pretraining(tmp_path / "r", sources=sources)))
    assert (piqa.licence, mine.licence) == ("AFL-3.0", "")
    assert "piqa" in piqa.home
    assert mine.home == ""


def test_a_finetuning_has_no_texts(tmp_path):
    assert text_sources(load_finetune(write_finetune(tmp_path / "r", {"causal": [2.0]}))) == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda records: records["sources"]["books"].pop("tokens"), "records.sources.books"),
        (
            lambda records: records["sources"]["arc_easy"]["dropped"].update(piqa="x"),
            "dropped.piqa",
        ),
        (lambda records: records.pop("sources"), "has no 'sources'"),
        (lambda records: records["sources"].clear(), "no token that is learned from"),
    ],
)
def test_facts_that_are_not_as_they_should_be_are_named(tmp_path, change, told):
    records = records_of(SOURCES)
    change(records)
    run = load_finetune(write_pretraining(tmp_path / "r", records=records))
    with pytest.raises(UserError, match=told):
        text_sources(run)
