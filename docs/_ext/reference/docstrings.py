"""What docstrings say: the summary, the text, and the attributes of a dataclass."""

import inspect
import re
from typing import Any

_ENTRY = re.compile(r"^(\w+): (.*)$")


def sections(thing: Any) -> tuple[str, dict[str, str]]:
    """A docstring's text before its first section, and the sections by name."""
    doc = inspect.getdoc(thing) or ""
    parts = re.split(r"^(Attributes|Args|Returns|Raises):\n", doc, flags=re.MULTILINE)
    return parts[0].strip(), dict(zip(parts[1::2], parts[2::2], strict=True))


def prose(thing: Any) -> str:
    """A docstring's text without its doctests."""
    paragraphs = sections(thing)[0].split("\n\n")
    return "\n\n".join(part for part in paragraphs if not part.startswith(">>>"))


def attributes(cls: type) -> dict[str, str]:
    """Name to text of the attributes that a class and its bases describe."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if "__doc__" in vars(base) and base is not object:
            found |= _entries(sections(base)[1].get("Attributes", ""))
    return found


def _entries(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(text).splitlines():
        entry = _ENTRY.match(line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name:
            found[name] += f" {line.strip()}"
    return found
