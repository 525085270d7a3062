"""The families by model type; a new one is a file here and an entry in `FAMILIES`."""

from collections.abc import Mapping

from jaxablate.core.errors import unknown
from jaxablate.models.families.base import Family
from jaxablate.models.families.llama import LLAMA
from jaxablate.models.families.ministral3 import MINISTRAL3
from jaxablate.models.families.mistral import MISTRAL
from jaxablate.models.families.qwen2 import QWEN2
from jaxablate.models.families.qwen3 import QWEN3

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (LLAMA, MISTRAL, MINISTRAL3, QWEN2, QWEN3)
}


def get(name: str) -> Family:
    """The family called `name`; raises `UserError` that lists the known."""
    if name not in FAMILIES:
        raise unknown("model family", name, FAMILIES)
    return FAMILIES[name]
