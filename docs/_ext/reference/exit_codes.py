"""The exit codes of every command."""

from jaxablate.cli.exit_codes import MEANINGS
from reference.markdown import code, table


def markdown() -> str:
    """One table."""
    return table(("code", "meaning"), [(code(str(n)), text) for n, text in MEANINGS.items()])
