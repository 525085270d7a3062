"""argparse that raises `UserError`, names the nearest option, and shows examples."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from jaxablate.core.errors import UserError, unknown


class Parser(argparse.ArgumentParser):
    """A parser whose every complaint is one `UserError`; options are written in full."""

    def __init__(self, **settings: Any):
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)
        # Taken out of the words before parsing; declared so that --help shows it.
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Like argparse, but an unknown option names the nearest one."""
        words = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown_options(words)
        parsed, extra = self.parse_known_args(words, namespace)
        if extra:
            raise UserError(f"{self._prefix}{extra[0]!r} is one argument too many")
        return parsed

    @property
    def _prefix(self) -> str:
        """The command that complains; the program's own name stands before every message."""
        command = self.prog.removeprefix("jaxablate").strip()
        return f"{command}: " if command else ""

    def _refuse_unknown_options(self, words: list[str]) -> None:
        known = [option for option in self._option_string_actions if option.startswith("--")]
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            is_option = name.startswith("--") or (name[:1] == "-" and name[1:2].isalpha())
            if is_option and name not in self._option_string_actions:
                raise unknown(f"option of {self.prog}", name, known)

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` in place of usage text and exit."""
        raise UserError(f"{self._prefix}{message} (see {self.prog} --help)")


def examples(text: str) -> str:
    """The examples of a command as an epilogue of its help."""
    return "examples:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())


def whole(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number >= `least`."""

    def read(text: str) -> int:
        digits = text[1:] if text[:1] in "+-" else text
        if not (digits.isascii() and digits.isdigit()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"needs a whole number >= {least}, got {text!r}")
        return int(text)

    return read


def one_of(what: str, options: Iterable[str]) -> Callable[[str], str]:
    """An argparse type: one of `options`, with the nearest one named otherwise."""
    names = list(options)

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(str(unknown(what, text, names)))
        return text

    return read


def split_list(text: str) -> list[str]:
    """Split at commas that stand outside parentheses.

    >>> split_list("causal, layers(0, 1) & causal")
    ['causal', 'layers(0, 1) & causal']
    """
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth <= 0:
            parts.append(text[start:index])
            start = index + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]
