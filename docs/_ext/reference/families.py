"""The model families and what Hugging Face calls them."""

from jaxablate.models.families import FAMILIES
from reference import docstrings
from reference.markdown import code, table


def markdown() -> str:
    """A line for each family."""
    rows = [
        (code(name), code(family.architecture), _about(family.read.__module__))
        for name, family in FAMILIES.items()
    ]
    return table(("`model_type`", "architecture", ""), rows)


def _about(module: str) -> str:
    """The first paragraph of the family's file."""
    return docstrings.prose(__import__(module, fromlist=["read"])).split("\n\n")[0]
