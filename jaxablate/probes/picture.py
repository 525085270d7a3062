"""What the probes measure, as pictures: gradient flow and attention weights, token by token."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, LogNorm, PowerNorm
from matplotlib.lines import Line2D

from jaxablate.core.errors import UserError
from jaxablate.core.picture import COLOURS, EMPTY, INK, QUIET, Picture, label_slots
from jaxablate.core.text import visible
from jaxablate.probes.flow import Flow, targets_seen

ALARM = COLOURS[1]
_LONGEST_LABEL = 12


def token_labels(lm: Any, tokens: Sequence[int]) -> list[str]:
    """A short text for each token; its number where the model has no tokenizer."""
    if lm.folder is None:
        return [str(token) for token in tokens]
    return [_label(lm.tokenizer.decode([token], skip_special=False)) for token in tokens]


def _label(text: str) -> str:
    shown = visible(text.replace("\n", "\u21b5")).strip() or "\u2423"
    return shown if len(shown) <= _LONGEST_LABEL else shown[: _LONGEST_LABEL - 1] + "\u2026"


def flow_picture(
    flows: Sequence[Flow], labels: Sequence[str], *, titles: Sequence[str] | None = None
) -> Picture:
    """Measured gradients above, what the masks alone let through below; one column a mask.

    A line is the position whose loss is taken, a column the token whose embedding is moved. Grey
    is exactly zero. A position that sees the token it predicts is marked at that token: filled
    where it is scored (a leak), hollow in a prompt, where nothing is scored.

    Args:
        flows: of the same tokens, see `jaxablate.probes.flow.measure`.
        labels: a text for each token.
        titles: what stands above each column; default: the masks' algebra.
    """
    if not flows or any(flow.tokens != flows[0].tokens for flow in flows):
        raise UserError("a picture of flows needs at least one, and all of the same tokens")
    names = [flow.mask for flow in flows] if titles is None else list(titles)
    size = _panel_size(len(labels))
    picture = Picture(len(flows) * size + 0.9, 2 * size + 0.8)
    grid = picture.grid(2, len(flows))
    norm = _log_norm([flow.gradient for flow in flows])
    for (measured, by_mask), flow, name in zip(grid.T, flows, names, strict=True):
        image = measured.imshow(_filled(flow.gradient), norm=norm, cmap=_on_grey("YlGnBu"))
        by_mask.imshow(flow.reachable, cmap=ListedColormap([EMPTY, "#8fb8d8"]), vmin=0, vmax=1)
        stamp = "LEAKY: " if flow.leaks else ""
        measured.set_title(f"{stamp}{name}", fontsize=10, color=ALARM if flow.leaks else INK)
        for axes, table in ((measured, flow.gradient), (by_mask, flow.reachable)):
            label_slots(axes, list(labels), list(labels), size=_letter_size(len(labels)))
            _frame(axes, len(labels), flow.prompt_length)
            _mark(axes, targets_seen(table), flow.prompt_length)
        measured.set_xlabel("input token", fontsize=8.0)
    grid[0, 0].set_ylabel("measured: loss at this position", fontsize=8.0)
    grid[1, 0].set_ylabel("by the mask alone", fontsize=8.0)
    _add_bar(picture, image, grid[:1], "|d loss / d embedding|")
    picture.legend(
        handles=_legend(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return picture


def attention_picture(
    weights: Mapping[str, Float[np.ndarray, "L N T T"]],
    labels: Sequence[str],
    *,
    heads: Sequence[tuple[int, int]],
    prompt_length: int | None = None,
) -> Picture:
    """Attention weights of some heads: one line a head, one column a condition.

    In each table a line is the query and a column the key. Grey is exactly zero, which is what a
    mask forbids; small weights are lifted (the colour goes with the square root).

    Args:
        weights: by name of the condition, of all layers, see `attention_weights`.
        labels: a text for each token.
        heads: (layer, query head) of each line.
        prompt_length: draws a line behind so many tokens.
    """
    if not weights or not heads:
        raise UserError("a picture of attention needs at least one condition and one head")
    size = _panel_size(len(labels))
    picture = Picture(len(weights) * size + 0.8, len(heads) * (size + 0.25))
    grid = picture.grid(len(heads), len(weights))
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    for line, (layer, head) in zip(grid, heads, strict=True):
        for axes, (name, table) in zip(line, weights.items(), strict=True):
            image = axes.imshow(_filled(table[layer, head]), norm=norm, cmap=_on_grey("YlGnBu"))
            axes.set_title(f"{name}: layer {layer}, head {head}", fontsize=9)
            label_slots(axes, list(labels), list(labels), size=_letter_size(len(labels)))
            if prompt_length is not None:
                _frame(axes, len(labels), prompt_length)
        line[0].set_ylabel("query", fontsize=8.0)
    for axes in grid[0]:
        axes.set_xlabel("key", fontsize=8.0)
    _add_bar(picture, image, grid, "attention weight", ticks=(0, 0.05, 0.2, 0.5, 1))
    return picture


def head_picture(values: Mapping[str, Float[np.ndarray, "L N"]], *, label: str) -> Picture:
    """A number of each head, such as `share_ahead`: one table [layer, head] for each condition."""
    shape = next(iter(values.values())).shape
    picture = Picture(len(values) * (0.42 * shape[1] + 0.7) + 0.9, 0.36 * shape[0] + 1.1)
    grid = picture.grid(1, len(values))
    most = max(1e-6, *(float(table.max()) for table in values.values()))
    for axes, (name, table) in zip(grid[0], values.items(), strict=True):
        image = axes.imshow(table, vmin=0, vmax=most, cmap="YlGnBu")
        numbers = [[str(number) for number in range(size)] for size in shape]
        label_slots(axes, numbers[1], numbers[0], size=8.0)
        for (layer, head), value in np.ndenumerate(table):
            colour = "white" if value > 0.55 * most else INK
            axes.text(head, layer, f"{value:.2f}", ha="center", va="center", size=7, color=colour)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("head", fontsize=8.0)
        axes.set_ylabel("layer", fontsize=8.0)
    _add_bar(picture, image, grid, label)
    return picture


def _panel_size(length: int) -> float:
    return min(6.5, max(2.2, 0.19 * length + 0.7))


def _letter_size(length: int) -> float:
    return max(3.0, min(8.0, 260 / length))


def _log_norm(tables: Sequence[Float[np.ndarray, "T T"]]) -> LogNorm:
    """One scale for all tables, over at most four decades below the largest value."""
    values = np.concatenate([table[table > 0] for table in tables] or [np.ones(1)])
    most = float(values.max(initial=1e-30))
    return LogNorm(max(float(values.min(initial=most)), most * 1e-4), most, clip=True)


def _filled(table: Float[np.ndarray, "T T"]) -> np.ma.MaskedArray:
    return np.ma.masked_equal(table, 0.0)


def _on_grey(name: str) -> Any:
    return colormaps[name].with_extremes(bad=EMPTY)


def _frame(axes: Any, length: int, prompt_length: int) -> None:
    """Two thin lines where the prompt ends."""
    if 0 < prompt_length < length:
        for draw in (axes.axvline, axes.axhline):
            draw(prompt_length - 0.5, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))


def _mark(axes: Any, positions: Sequence[int], prompt_length: int) -> None:
    """A dot at the token that a position predicts, where the position sees it."""
    for position in positions:
        place = ([position + 1], [position], "o")
        if position >= prompt_length - 1:
            axes.plot(*place, ms=5.5, mfc=ALARM, mec="white", mew=0.9)
        else:
            axes.plot(*place, ms=5.5, mfc="none", mec="white", mew=2.2)
            axes.plot(*place, ms=5.5, mfc="none", mec=INK, mew=0.9)


def _legend() -> list[Any]:
    leak = Line2D([], [], ls="", marker="o", mfc=ALARM, mec="white", label="scored: a leak")
    meant = Line2D(
        [], [], ls="", marker="o", mfc="none", mec=INK, label="in the prompt, not scored"
    )
    line = Line2D([], [], ls="--", lw=0.8, color=QUIET, label="the prompt ends")
    return [leak, meant, line]


def _add_bar(picture: Picture, image: Any, grid: np.ndarray, label: str, **options: Any) -> None:
    bar = picture.colorbar(image, ax=list(grid.ravel()), shrink=0.8, pad=0.02, **options)
    bar.set_label(label, fontsize=8.0)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
