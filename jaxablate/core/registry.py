"""A table of named things whose look-up error lists the names."""

from collections.abc import Callable
from typing import Generic, TypeVar

from jaxablate.core.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to things of one kind; `what` is the word the error message uses."""

    def __init__(self, what: str):
        self.what = what
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a thing under `name`; a name is given once."""

        def enter(thing: T) -> T:
            if name in self._things:
                raise ValueError(f"{self.what} {name!r} is registered twice")
            self._things[name] = thing
            return thing

        return enter

    def get(self, name: str) -> T:
        """The thing called `name`; raises `UserError` that lists the names."""
        if name not in self._things:
            raise unknown(self.what, name, self._things)
        return self._things[name]

    def names(self) -> tuple[str, ...]:
        """All names, in the order of registration."""
        return tuple(self._things)
