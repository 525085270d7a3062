"""How far long work is: the work tells, and whoever watches (the command line) shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Told of the work's name, of what is done and of the whole, both in bytes.
Watcher = Callable[[str, int, int], None]

_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def tell(work: str, done: int, total: int) -> None:
    """Say that `done` of `total` bytes of some work are done; nobody may be watching."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(work, done, total)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Everything inside tells `watcher`.

    >>> with watching(lambda work, done, total: print(work, f"{done}/{total}")):
    ...     tell("reading weights", 5, 10)
    reading weights 5/10
    """
    before = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(before)
