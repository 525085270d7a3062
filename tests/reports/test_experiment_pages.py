"""The page of an experiment: self-contained, and blind to what its data says."""

import re
from itertools import pairwise

import pytest

from jaxablate.reports.experiment import load_experiment
from jaxablate.reports.overview import build_overview
from jaxablate.reports.render import experiment_html, experiment_markdown
from tests.reports.experiments import write_experiment
from tests.reports.test_render import PAYLOADS, elements

RATES = {
    "base": {"causal": 0.9, "prefix_lm": 0.6, "full": 0.95},
    "sft_prefix": {"causal": 0.88, "prefix_lm": 0.85},
}


def pages_of(root, name):
    """Page and Markdown of an experiment in which `name` makes every text."""
    write_experiment(root, rates=RATES, stopped={"sft_prefix": "plateau"}, name=name, items=40)
    view = build_overview(load_experiment(root))
    return experiment_html(view), experiment_markdown(view)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return pages_of(tmp_path_factory.mktemp("plain") / "e", lambda text: f"{text} text")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_run_folder_adds_markup(payload, plain, tmp_path):
    page, text = pages_of(tmp_path / "e", lambda field: field + payload)
    assert elements(page) == elements(plain[0])
    assert text.count("\n") == plain[1].count("\n")
    for mark in ("|", "<", "[", "!", "#"):
        unescaped = rf"(?<!\\){re.escape(mark)}"
        assert len(re.findall(unescaped, text)) == len(re.findall(unescaped, plain[1])), mark
    for hidden in ("\x1b", "\u202e"):
        assert hidden not in page + text


def test_the_page_loads_nothing_and_runs_nothing(plain):
    page = plain[0]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert not re.search(r"<script|<link|<img|<iframe|\son\w+=|@import|url\(|https?://", page)


def test_headings_are_nested_and_every_figure_says_what_it_shows(plain):
    lxml_html = pytest.importorskip("lxml.html")
    tree = lxml_html.document_fromstring(plain[0])
    levels = [int(node.tag[1]) for node in tree.xpath("//h1|//h2|//h3|//h4")]
    assert levels[0] == 1
    assert all(after <= before + 2 for before, after in pairwise(levels))
    figures = tree.xpath("//svg[@role='img']")
    assert figures
    assert all(figure.get("aria-label") and figure.find("title") is not None for figure in figures)
    targets = [node.get("aria-labelledby") for node in tree.xpath("//section")]
    identities = [node.get("id") for node in tree.xpath("//*[@id]")]
    assert set(targets) <= set(identities)
    assert len(set(identities)) == len(identities)


def test_both_pages_say_the_same_numbers(plain):
    page, text = plain
    for number in set(re.findall(r"[+-]?\d\.\d{3}\b", text.split("## Runs")[0])):
        assert number in page, number
