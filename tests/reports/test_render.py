"""The page: self-contained, honest about leaks, and blind to what its data says."""

import re

import pytest

from jaxablate.reports.render import html, markdown
from tests.reports.views import make_view

PAYLOADS = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<iframe src=//evil.example>",
    "]]><b>x</b>",
    "--><b>x</b><!--",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "&lt;script&gt;",
    "<math><mtext></mtext></math>",
    "</svg></table></main>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0>",
    "\x1b]0;title\x07\x1b[2J",
    "\u202egnp.exe",
    "[red]x[/]",
    "a|b\n|---|\n# heading",
    "![x](http://evil.example/a.png)",
]


def elements(page):
    """Every element with its attributes' names, in document order."""
    lxml_html = pytest.importorskip("lxml.html")
    tree = lxml_html.document_fromstring(page)
    return [(node.tag, sorted(node.attrib)) for node in tree.iter() if isinstance(node.tag, str)]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_adds_an_element_or_an_attribute(payload):
    plain = elements(html(make_view(lambda field: f"{field} text")))
    assert elements(html(make_view(lambda field: field + payload))) == plain


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_adds_markup_or_lines_to_the_markdown(payload):
    plain = markdown(make_view(lambda field: f"{field} text"))
    shown = markdown(make_view(lambda field: field + payload))
    assert shown.count("\n") == plain.count("\n")
    for mark in ("|", "<", "[", "!", "#"):
        unescaped = rf"(?<!\\){re.escape(mark)}"
        assert len(re.findall(unescaped, shown)) == len(re.findall(unescaped, plain)), mark
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_the_page_shows_foreign_text_as_it_is():
    lxml_html = pytest.importorskip("lxml.html")
    page = html(make_view(lambda field: f"{field} <b>&amp; {{{{ 1 }}}}"))
    text = lxml_html.document_fromstring(page).text_content()
    assert "causal <b>&amp; {{ 1 }}" in text


def test_the_page_loads_nothing_and_runs_nothing():
    page = html(make_view())
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert not re.search(r"<script|<link|<img|<iframe|\son\w+=|@import|url\(|https?://", page)


def test_a_leaky_condition_is_stamped_in_every_place():
    page, text = html(make_view()), markdown(make_view())
    places = 1 + 2 * 2 + 2 * 2 + 1 + 3  # card; figures and tables by task; macro; ratios
    assert page.count(">LEAKY<") == places
    assert text.count("**LEAKY**") == 1 + 2 + 2 + 1
    assert "LEAKY" not in html(make_view(leaky=False)) + markdown(make_view(leaky=False))


def test_numbers_have_three_digits_and_intervals():
    page = html(make_view())
    for shown in (
        "0.500",
        "[0.250, 0.750]",
        "+0.333",
        "-0.100",
        "[-0.210, +0.020]",
        "0.041",
        "0.80 [0.60, 0.95]",
    ):
        assert shown in page, shown
    assert "&lt; 0.001" in page


def test_the_axis_of_differences_holds_every_interval():
    assert make_view().reach == pytest.approx(0.25)


def test_equal_views_give_equal_bytes():
    assert html(make_view()) == html(make_view())
    assert markdown(make_view()) == markdown(make_view())


def test_a_missing_value_in_a_template_is_an_error():
    import dataclasses

    from jinja2 import UndefinedError

    broken = dataclasses.replace(make_view(), runs=({"id": "x"},))
    with pytest.raises(UndefinedError):
        html(broken)
