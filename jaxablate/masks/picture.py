"""Masks as pictures: queries are lines, keys are columns, a coloured cell is open."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.colors import to_rgb

from jaxablate.core.errors import UserError
from jaxablate.core.picture import COLOURS, EMPTY, QUIET, Picture, label_slots, separate_cells
from jaxablate.core.slots import Role, Slots
from jaxablate.masks.algebra import Mask
from jaxablate.masks.draw import open_cells, role_letters

# Of the query's role; the letters beside the table say the same.
_COLOUR_OF = {
    Role.PAD: QUIET,
    Role.PROMPT: COLOURS[0],
    Role.RESPONSE: COLOURS[1],
    Role.LATENT: COLOURS[2],
    Role.GIST: COLOURS[3],
}
_MOST_COLUMNS = 4
_WIDEST = 10.0  # inches


def mask_picture(
    masks: Sequence[Mask | str],
    layout: Slots | str,
    *,
    titles: Sequence[str] | None = None,
    layer: int = 0,
    head: int = 0,
) -> Picture:
    """One table for each mask, all on the same row of slots.

    Args:
        masks: names, algebra or masks; `mask.at(layer, head)` is the mask of one layer and head.
        layout: slots, or a text such as "P4 R3" (see `jaxablate.masks.draw.read_layout`).
        titles: what stands above each table; default: the masks as they are written.
        layer: layer that is drawn.
        head: head that is drawn.
    """
    names = [str(mask) for mask in masks] if titles is None else list(titles)
    if not masks or len(names) != len(masks):
        raise UserError(f"a picture needs one title a mask, got {len(masks)} and {len(names)}")
    lines = -(-len(masks) // _MOST_COLUMNS)
    columns = -(-len(masks) // lines)
    tables = [open_cells(mask, layout, layer=layer, head=head) for mask in masks]
    size = max(1.7, min(_WIDEST / columns, 0.24 * len(tables[0][1]) + 0.4))
    picture = Picture(columns * size, lines * (size + 0.3))
    places = picture.grid(lines, columns).ravel()
    for axes, name, (slots, cells) in zip(places, names, tables, strict=False):
        _draw(axes, slots, cells)
        axes.set_title(name, fontsize=9)
    for axes in places[len(masks) :]:
        axes.set_axis_off()
    return picture


def _draw(axes: Any, slots: Slots, cells: Bool[np.ndarray, "T T"]) -> None:
    """The table of one mask; the colour is that of the query's role."""
    roles, letters = slots.role[0], list(role_letters(slots))
    colours = np.array([to_rgb(_COLOUR_OF[Role(role)]) for role in roles])[:, None]  # T 1 3
    axes.imshow(np.where(cells[:, :, None], colours, to_rgb(EMPTY)))
    label_slots(axes, letters, letters, size=min(8.0, 240 / len(letters)))
    separate_cells(axes, *cells.shape)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, role in zip(labels, roles, strict=True):
            label.set_color(_COLOUR_OF[Role(role)])
