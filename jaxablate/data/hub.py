"""Data sets by their name on the Hugging Face hub, through the optional library `datasets`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jaxablate.core.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?(:[\w.-]{1,95})?", re.ASCII)


def check_name(name: str) -> None:
    """Raises `UserError` unless it reads "owner/name", or "owner/name:config" for one of several.

    >>> check_name("yahma/alpaca-cleaned")
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(
            f"a data set on the hub is named owner/name or owner/name:config, got {name!r}"
        )


def hub_splits(name: str, revision: str = "") -> Mapping[str, Iterable[Any]]:
    """The rows of every split of a data set.

    Args:
        name: "owner/name", or "owner/name:config" where the set has several configs.
        revision: branch, tag or commit; empty takes the newest.

    Raises:
        UserError: without the library, without a network, for an unknown name or revision.
    """
    check_name(name)
    datasets = library()
    repository, _, config = name.partition(":")
    try:
        return datasets.load_dataset(repository, config or None, revision=revision or None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise UserError(
            f"data set {name!r}{at}: {one_line(error)} (local files: give a data folder)"
        ) from None


def library() -> Any:
    """The module `datasets`; raises `UserError` that says how to install it."""
    try:
        import datasets
    except ImportError:
        raise UserError(
            "this kind of data needs the extra 'data' (pip install jaxablate[data]); "
            "JSON lines work without it"
        ) from None
    return datasets


def one_line(error: Exception) -> str:
    """What an error says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
