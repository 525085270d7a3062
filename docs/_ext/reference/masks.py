"""Every recipe and atom with its text and a drawing made at build time."""

import inspect
import re

from jaxablate.masks.atoms import ATOMS
from jaxablate.masks.draw import draw
from jaxablate.masks.parse import names, parse
from jaxablate.masks.recipes import RECIPES
from reference import docstrings
from reference.markdown import block, code, target

# A mask that shows the atom, and the row that it is drawn on.
EXAMPLES = {
    "same_segment": ("same_segment", "P2 R1; P1 R1"),
    "nothing": ("causal & ~from(latent) | nothing", "L2 P2 R1"),
    "causal": ("causal", "P3 R2"),
    "window": ("causal & window(2)", "P4 R2"),
    "chunk": ("causal & chunk(3)", "P4 R3"),
    "sink": ("causal & (window(2) | sink(1))", "P4 R2"),
    "within": ("causal | within(prompt)", "P3 R2"),
    "to": ("causal & to(prompt)", "P3 R2"),
    "from": ("causal | from(prompt)", "P3 R2"),
    "same_part": ("causal | same_part", "P2/1 P2/2 R1"),
    "to_part": ("causal & ~to_part(1)", "P2/1 P2/2 R1"),
    "from_part": ("causal & ~(from_part(2) & to_part(1))", "P2/1 P2/2 R1"),
    "layers": ("layers(0-11) & prefix_lm | ~layers(0-11) & causal", "P3 R2"),
    "heads": ("heads(0-3) & prefix_lm | ~heads(0-3) & causal", "P3 R2"),
}
_SHOWN = re.compile(r'>>> show\((\w+)\(([^)]*)\), "([^"]+)"\)')


def recipes() -> str:
    """All recipes, each drawn on the row of its docstring."""
    return "\n".join(_recipe(name) for name in RECIPES.names())


def atoms() -> str:
    """All atoms, each in a mask that shows it."""
    return "\n".join(_atom(name) for name in ATOMS.names())


def _recipe(name: str) -> str:
    found = _SHOWN.search(inspect.getdoc(RECIPES.get(name)) or "")
    if not found:
        raise ValueError(f"the docstring of recipe {name!r} draws nothing")
    text = f"{name}({found[2]})" if found[2] else name
    return _entry("recipe", name, docstrings.prose(RECIPES.get(name)), text, found[3])


def _atom(name: str) -> str:
    return _entry("atom", name, docstrings.prose(ATOMS.get(name)), *EXAMPLES[name])


def _entry(kind: str, name: str, text: str, example: str, layout: str) -> str:
    written = next(one for one in names() if one.partition("(")[0] == name)
    mask = parse(example)
    spelled = f"\n\nWritten out: {code(str(mask))}" if str(mask) != example else ""
    return "\n".join(
        (
            target(f"{kind}-{name}"),
            f"### {code(written)}\n",
            f"{text}\n",
            f"{code(example)} on {code(layout)}:\n",
            block(draw(mask, layout)) + spelled,
            "",
        )
    )
