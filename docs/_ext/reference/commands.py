"""The help of every command, as the terminal shows it."""

import os

from jaxablate.cli.entry import COMMANDS, load_command
from reference.markdown import block, code, table, target

# Help is wrapped to the terminal's width and coloured where it can be (Python 3.14).
os.environ |= {"COLUMNS": "96", "NO_COLOR": "1"}


def markdown() -> str:
    """A list of the commands, then each one's help."""
    listed = [(f"[{name}](#command-{name})", text) for name, text in COMMANDS.items()]
    return "\n".join((table(("command", "does"), listed), *map(_command, COMMANDS)))


def _command(name: str) -> str:
    _, parser = load_command(name)
    heading = f"### {code(f'jaxablate {name}')}\n"
    return "\n".join((target(f"command-{name}"), heading, block(parser.format_help())))
