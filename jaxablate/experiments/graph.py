"""What must come before what: an order of names, or one clear sentence why there is none."""

from collections.abc import Iterable, Mapping, Sequence

from jaxablate.core.errors import UserError, nearest

Needs = Mapping[str, Sequence[str]]


def order(needs: Needs) -> list[str]:
    """Every name after those it needs, otherwise as given.

    >>> order({"score": ["train"], "train": [], "plot": []})
    ['train', 'score', 'plot']

    Raises:
        UserError: for a need that is no name, or for names that need each other.
    """
    placed: dict[str, None] = {}
    for name in needs:
        _place(name, needs, placed, ())
    return list(placed)


def select(needs: Needs, wanted: Iterable[str]) -> list[str]:
    """The wanted names with everything they need, in order.

    >>> select({"a": [], "b": ["a"], "c": ["b"], "d": []}, ["b"])
    ['a', 'b']
    """
    placed: dict[str, None] = {}
    for name in wanted:
        if name not in needs:
            raise _no_such_stage("", name, needs)
        _place(name, needs, placed, ())
    return [name for name in order(needs) if name in placed]


def _place(name: str, needs: Needs, placed: dict[str, None], path: tuple[str, ...]) -> None:
    """Enter a name behind its needs; `path` leads from the first name to this one."""
    if name in placed:
        return
    if name in path:
        circle = (*path[path.index(name) :], name)
        raise UserError(f"stages need each other in a circle: {' -> '.join(circle)}")
    for need in needs[name]:
        if need not in needs:
            raise _no_such_stage(f"stage {name!r} needs ", need, needs)
        _place(need, needs, placed, (*path, name))
    placed[name] = None


def _no_such_stage(before: str, name: str, known: Iterable[str]) -> UserError:
    names = list(known)
    guess = nearest(name, names)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return UserError(f"{before}{name!r}, which is no stage; stages: {', '.join(names)}{hint}")
