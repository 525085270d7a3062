"""The exit codes of every command."""

from reference.markdown import code, table

from jaxablate.cli.exit_codes import MEANINGS


def markdown() -> str:
    """One table."""
    return table(("code", "meaning"), [(code(str(n)), text) for n, text in MEANINGS.items()])
