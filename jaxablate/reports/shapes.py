"""Files of a run folder, checked before use: a folder may come from anybody."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError


@dataclass(frozen=True)
class Maybe:
    """A shape, or null, or not there at all."""

    shape: Any


def match(value: Any, shape: Any, at: str, path: Path) -> None:
    """Raise `UserError` unless a value has a shape.

    Args:
        value: what a file holds.
        shape: a type; a table of shapes by key; a list of one shape for all items; or `Maybe`.
            More keys than the shape names are allowed. Numbers must be finite.
        at: where in the file the value stands.
        path: the file, for messages.
    """
    if isinstance(shape, Maybe):
        if value is not None:
            match(value, shape.shape, at, path)
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            raise UserError(f"{path}: {at or 'the file'} must be a table, got {value!r:.60}")
        for key, inner in shape.items():
            if key not in value and not isinstance(inner, Maybe):
                raise UserError(f"{path}: {at or 'the file'} has no {key!r}")
            match(value.get(key), inner, f"{at}.{key}" if at else key, path)
    elif isinstance(shape, list):
        match(value, list, at, path)
        for index, item in enumerate(value):
            match(item, shape[0], f"{at}[{index}]", path)
    elif not _is(value, shape):
        raise UserError(f"{path}: {at} must be of type {shape.__name__}, got {value!r:.60}")


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def read_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines; raises `UserError` that names the file."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: a line is not JSON") from None
