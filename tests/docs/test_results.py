"""Numbers on the page of results are those of the reports that a section names."""

import re

import pytest

from jaxablate.reports.published import read_published
from tests.docs.pages import ROOT

PAGE = ROOT / "results" / "README.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
# A number with a decimal point that is no part of a name or of a path.
DECIMAL = re.compile(r"(?<![\w./-])[+-]?\d+\.\d+(?![\w/-]|\.\w)")
# A number with its interval, "0.399 (0.378 to 0.421)".
ESTIMATE = re.compile(r"([+-]?\d+\.\d+)\s\(([+-]?\d+\.\d+) to\s([+-]?\d+\.\d+)\)")
# Told of other people's work.
OTHERS = {"0.03", "0.15"}


def reports(section):
    """The text of every report that a section links to."""
    links = re.findall(r"\]\(([\w./-]+/(?:report|README)\.md)\)", section)
    return [(PAGE.parent / link).read_text().replace("\\", "") for link in links]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_every_number_stands_in_a_report_that_the_section_names(section):
    texts = reports(section)
    assert texts
    prose = re.sub(r"^```.*?^```$", "", section, flags=re.MULTILINE | re.DOTALL)
    numbers = set(DECIMAL.findall(prose)) - OTHERS
    assert numbers
    known = {number for text in texts for number in DECIMAL.findall(text)}
    known |= {number.removeprefix("+") for number in known}
    assert not numbers - known


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_a_number_and_its_interval_stand_side_by_side_in_a_report(section):
    texts = "\n".join(reports(section))
    found = ESTIMATE.findall(section)
    assert found
    for value, low, high in found:
        near = rf"{re.escape(value)}[ |(]+{re.escape(low)} to {re.escape(high)}"
        assert re.search(near, texts), f"{value} ({low} to {high})"


def test_every_published_claim_stands_in_the_study_with_what_was_measured_beside_it():
    published = read_published(PAGE.parent / "study" / "published.yaml")
    report = (PAGE.parent / "study" / "report.md").read_text().replace("\\", "")
    for one in published.claims:
        assert f"### {one.claim}" in report
        assert all(f"| {wanted.label}" in report for wanted in one.measured)
        assert " ".join(one.cause.split()) in report


def test_a_number_that_no_report_has_is_found():
    assert set(DECIMAL.findall("`x` 0.399 (0.378 to 0.421), -0.003; runs/a-0.5.yaml, v1.2.3")) == {
        "0.399",
        "0.378",
        "0.421",
        "-0.003",
    }
