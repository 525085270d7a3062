"""The one error type a user can cause, and how it names the nearest valid choice."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input of any kind: one sentence that says what was got and what is possible.

    The command line prints it without a traceback and ends with exit code 2.
    """


def nearest(got: str, options: Iterable[str]) -> str | None:
    """The option most like `got`, or None when nothing is close.

    >>> nearest("prefixlm", ["causal", "prefix_lm"])
    'prefix_lm'
    """
    matches = difflib.get_close_matches(got.lower(), list(options), n=1, cutoff=0.5)
    return matches[0] if matches else None


class Stopped(BaseException):
    """The work was asked to stop and saved what it had first; the same command goes on.

    Like KeyboardInterrupt it is no Exception: it may be raised anywhere, also where a library
    takes every Exception for a failure of its own.
    """


class SaveError(Exception):
    """Something could not be saved; the process ends, since what writes may hang for ever."""


def unknown(what: str, got: object, options: Iterable[str]) -> UserError:
    """An error for a name that is not among `options`.

    >>> print(unknown("mask", "casual", ["causal", "prefix_lm"]))
    unknown mask 'casual'; known: causal, prefix_lm; did you mean 'causal'?
    """
    names = sorted(options)
    guess = nearest(str(got), names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return UserError(f"unknown {what} {got!r}; known: {', '.join(names)}{hint}")
