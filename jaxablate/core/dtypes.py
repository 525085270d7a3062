"""Names of the floating types that weights and activations may have."""

from jaxablate.core.errors import unknown

_ALIASES = {
    "float32": "float32",
    "fp32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}


def parse_dtype(name: str) -> str:
    """The full name of a floating type.

    >>> parse_dtype("BF16")
    'bfloat16'
    """
    if name.lower() not in _ALIASES:
        raise unknown("dtype", name, _ALIASES)
    return _ALIASES[name.lower()]
