"""Pieces of MyST Markdown."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are Markdown of one line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def block(text: str, language: str = "text") -> str:
    """A fenced block."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def code(text: str) -> str:
    """Inline code; a pipe is kept apart from a table's."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if text else ""


def target(name: str) -> str:
    """An anchor for the next heading."""
    return f"({name})=\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
