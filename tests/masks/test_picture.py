"""A mask's picture has a coloured cell wherever the mask is open."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from jaxablate.core.errors import UserError
from jaxablate.core.picture import COLOURS, EMPTY
from jaxablate.masks import parse
from jaxablate.masks.picture import mask_picture


def cells(axes):
    """The drawn table: E for an empty cell, P or R for one of that role's colour."""
    names = {to_rgb(EMPTY): ".", to_rgb(COLOURS[0]): "P", to_rgb(COLOURS[1]): "R"}
    image = np.asarray(axes.images[0].get_array())
    return ["".join(names[tuple(cell)] for cell in line) for line in image.tolist()]


def test_open_cells_have_the_colour_of_the_querys_role():
    picture = mask_picture(["prefix_lm", "causal"], "P2 R2", titles=["both ways", "one way"])
    first, second = picture.axes
    assert cells(first) == ["PP..", "PP..", "RRR.", "RRRR"]
    assert cells(second) == ["P...", "PP..", "RRR.", "RRRR"]
    assert [axes.get_title() for axes in (first, second)] == ["both ways", "one way"]
    assert [label.get_text() for label in first.get_xticklabels()] == ["P", "P", "R", "R"]


def test_layer_and_head_choose_what_is_drawn():
    mask = parse("layers(1) & heads(2) & same_segment | causal")
    picture = mask_picture([mask], "P2", layer=1, head=2)
    assert cells(picture.axes[0]) == ["PP", "PP"]
    assert cells(mask_picture([mask.at(1, 0)], "P2").axes[0]) == ["P.", "PP"]


def test_more_masks_than_columns_take_more_lines(tmp_path):
    picture = mask_picture(["causal"] * 5, "P2 L1 G1 .")
    assert len([axes for axes in picture.axes if axes.images]) == 5
    picture.savefig(tmp_path / "masks.png")
    assert (tmp_path / "masks.png").read_bytes().startswith(b"\x89PNG")


def test_each_mask_needs_its_title():
    with pytest.raises(UserError, match="one title a mask"):
        mask_picture(["causal"], "P2", titles=[])
    with pytest.raises(UserError, match="got 0"):
        mask_picture([], "P2")
