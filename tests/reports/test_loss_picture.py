"""The learning curve of a pretraining as a picture."""

import math

import pytest

from jaxablate.core.errors import UserError
from jaxablate.reports.finetune import load_finetune
from jaxablate.reports.loss_picture import loss_picture
from tests.reports.pretrainings import write_pretraining


def test_losses_stand_over_tokens_with_perplexity_beside(tmp_path):
    picture = loss_picture(load_finetune(write_pretraining(tmp_path / "r")))
    axes, beside = picture.axes
    train, held_out = axes.get_lines()
    millions = 64 / 1e6  # a step
    assert train.get_ydata()[-1] == pytest.approx(2.8)
    assert held_out.get_xdata() == pytest.approx([0, 10 * millions, 20 * millions])
    assert list(held_out.get_ydata()) == [9.0, 5.0, 4.0]
    assert beside.get_ylim() == axes.get_ylim()
    labels = [label.get_text() for label in beside.get_yticklabels()]
    places = [float(tick) for tick in beside.get_yticks()]
    assert places == pytest.approx([math.log(int(text.replace(",", ""))) for text in labels])
    assert "100" in labels


def test_a_run_without_a_finite_loss_is_refused(tmp_path):
    folder = write_pretraining(tmp_path / "r", losses=())
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="no finite loss"):
        loss_picture(load_finetune(folder))
