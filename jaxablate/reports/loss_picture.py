"""The learning curve of a pretraining as a picture: nats a token, and perplexity beside it."""

import math
from io import BytesIO
from typing import Any

import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.core.picture import COLOURS, INK, QUIET, Picture
from jaxablate.reports.charts import thinned
from jaxablate.reports.finetune import FinetuneRun


def loss_png(run: FinetuneRun) -> bytes:
    """The curve as PNG; equal runs give equal bytes with equal versions of matplotlib.

    Raises:
        UserError: for a run without a finite loss.
    """
    picture = loss_picture(run)
    file = BytesIO()
    picture.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def loss_picture(run: FinetuneRun) -> Picture:
    """Training loss and held-out losses by tokens read; raises `UserError` if there are none."""
    train = [(step, loss) for step, loss in thinned(run.train) if loss is not None]
    held_out = {
        mask: [(one.step, one.loss) for one in run.measured(mask) if one.loss is not None]
        for mask in run.masks
    }
    if not train and not any(held_out.values()):
        raise UserError(f"{run.path}: has no finite loss to draw")
    # Rows are packed, so every step reads nearly as many tokens.
    millions = run.summary["tokens_seen"] / max(1, run.summary["steps_done"]) / 1e6
    picture = Picture(7.0, 3.6)
    axes = picture.grid(1, 1)[0, 0]
    if train:
        steps, losses = np.transpose(train)
        axes.plot(steps * millions, losses, color=QUIET, linewidth=1, label="training loss")
    for (mask, points), colour in zip(held_out.items(), COLOURS * len(held_out), strict=False):
        if points:
            steps, losses = np.transpose(points)
            label = f"held-out loss, {mask}"
            axes.plot(steps * millions, losses, "o-", color=colour, markersize=4, label=label)
    _finish(axes)
    return picture


def _finish(axes: Any) -> None:
    axes.set_xlabel("tokens read (millions)", color=INK)
    axes.set_ylabel("nats a token", color=INK)
    axes.set_xlim(left=0)
    low, high = axes.get_ylim()
    beside = axes.twinx()
    beside.set_ylim(low, high)
    ticks = [p for p in _round_numbers() if low <= math.log(p) <= high]
    beside.set_yticks([math.log(p) for p in ticks], [f"{p:,}" for p in ticks])
    beside.set_ylabel("perplexity", color=INK)
    axes.grid(color="#e6e8eb", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
    for each in (axes, beside):
        each.spines[["top"]].set_visible(False)
        each.tick_params(colors=INK, labelsize=8)


def _round_numbers() -> list[int]:
    """Ticks of perplexity: 1, 2, 5, 10, 20, 50 and so on."""
    return [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
