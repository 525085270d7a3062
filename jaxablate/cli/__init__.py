"""The command line: one file per command, imported only when it is asked for."""

from jaxablate.cli.entry import main

__all__ = ["main"]
