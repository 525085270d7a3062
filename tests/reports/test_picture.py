"""A report in a notebook: the numbers of the view, chance, LEAKY, and a page that stays data."""

from html.parser import HTMLParser

import pytest

from jaxablate.reports.picture import Page, accuracy_picture
from jaxablate.reports.render import html
from tests.reports.views import make_view


def test_each_mask_is_shown_with_its_value_and_chance():
    view = make_view()
    picture = accuracy_picture(view)
    for axes, task in zip(picture.axes, view.tasks, strict=True):
        results = view.results_of(task)
        values = [text.get_text() for text in axes.texts]
        assert values == [f"{result.accuracy.value:.2f}" for result in results]
        places = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert places == pytest.approx([results[0].chance])
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_leaky_masks_are_named_and_hollow():
    axes = accuracy_picture(make_view()).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "causal",
        "prefix",
        "full  LEAKY",
    ]
    marks = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert [mark == "white" for mark in marks] == [False, False, True]


def test_the_page_in_its_frame_is_the_page_and_nothing_else():
    view = make_view(lambda field: f'{field}"></iframe><script>')
    shown = Page(view)._repr_html_()
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Reader().feed(shown)
    ((tag, attributes),) = found
    assert tag == "iframe"
    assert attributes["srcdoc"] == html(view)
