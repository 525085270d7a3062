"""Pictures show what was measured: a column a mask, marks where a position sees its target."""

import numpy as np
import pytest
from flax import nnx

from jaxablate.core.errors import UserError
from jaxablate.language_model import LanguageModel
from jaxablate.probes.flow import Flow
from jaxablate.probes.picture import (
    ALARM,
    attention_picture,
    flow_picture,
    head_picture,
    token_labels,
)
from tests.engine.models import random_model

LABELS = ["the", "cat", "sat", "on", "a", "mat"]
TRIANGLE = np.tril(np.ones((6, 6), bool))


def flow(reachable: np.ndarray, mask: str = "causal") -> Flow:
    tokens = tuple(range(len(reachable)))
    gradient = np.where(reachable, np.float32(0.5), np.float32(0))
    return Flow(mask=mask, tokens=tokens, prompt_length=4, gradient=gradient, reachable=reachable)


def titles(picture):
    return [axes.get_title() for axes in picture.axes if axes.get_title()]


def marks(axes):
    """Places (column, line) of filled marks."""
    return [
        (int(line.get_xdata()[0]), int(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_markerfacecolor() == ALARM
    ]


def test_a_flow_has_a_column_a_mask_and_marks_its_leaks():
    names = ("causal", "full_bidirectional")
    flows = [
        flow(table, name) for table, name in zip((TRIANGLE, TRIANGLE | True), names, strict=True)
    ]
    picture = flow_picture(flows, LABELS)
    assert titles(picture) == ["causal", "LEAKY: full_bidirectional"]
    honest, leaky = picture.axes[:2]
    assert marks(honest) == []
    assert marks(leaky) == [(4, 3), (5, 4)]
    np.testing.assert_array_equal(honest.images[0].get_array().mask, ~TRIANGLE)
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_attention_has_a_line_a_head_and_a_column_a_condition():
    random = np.random.default_rng(0)
    weights = {mask: random.random((3, 4, 6, 6), np.float32) for mask in ("causal", "prefix_lm")}
    picture = attention_picture(weights, LABELS, heads=[(0, 1), (2, 3)], prompt_length=4)
    assert titles(picture)[::3] == ["causal: layer 0, head 1", "prefix_lm: layer 2, head 3"]
    shown = picture.axes[3].images[0].get_array()
    np.testing.assert_array_equal(shown.filled(0), weights["prefix_lm"][2, 3])
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_table_of_heads_shows_every_number():
    shares = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    picture = head_picture({"prefix_lm": shares}, label="ahead")
    shown = [text.get_text() for text in picture.axes[0].texts]
    assert shown == ["0.00", "0.20", "0.40", "0.60", "0.80", "1.00"]
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_token_is_labelled_by_its_text_or_else_its_number(tmp_path):
    from jaxablate.experiments.tiny import write_tiny_model

    write_tiny_model(tmp_path, seed=0)
    plain = random_model()
    assert token_labels(plain, [7, 80]) == ["7", "80"]
    lm = LanguageModel(nnx.merge(plain.graph, plain.params), plain.config, folder=tmp_path)
    assert token_labels(lm, lm.tokenizer.encode("The cat\n")) == ["The", "cat", "\u21b5"]


def test_pictures_of_nothing_are_refused():
    for flows in ([], [flow(TRIANGLE), flow(TRIANGLE[:5, :5])]):
        with pytest.raises(UserError, match="same tokens"):
            flow_picture(flows, LABELS)
    with pytest.raises(UserError, match="at least one"):
        attention_picture({}, LABELS, heads=[(0, 0)])
