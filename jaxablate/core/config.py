"""Settings into frozen dataclasses, strictly, and what identifies a config.

An unknown key is an error that names the nearest known one. A value of the wrong kind is an error
that names the key and where it was written. Fields made with `operational(...)` say how a run is
carried out, not what comes out, and do not count for the fingerprint.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from jaxablate.core.errors import UserError, nearest
from jaxablate.core.files import digest
from jaxablate.core.settings import Settings, flatten

T = TypeVar("T")


def operational(default: Any) -> Any:
    """A dataclass field that does not change results."""
    return dataclasses.field(default=default, metadata={"operational": True})


def build(cls: type[T], settings: Settings) -> T:
    """An instance of a dataclass from settings; nested tables become nested dataclasses.

    Raises:
        UserError: for an unknown, missing or ill-typed key.
    """
    return _build(cls, settings.values, "", settings)


def fingerprint(config: Any) -> str:
    """Hex digest of what determines the results."""
    return digest(relevant(config))


def relevant(config: Any) -> dict[str, Any]:
    """The config as plain values, without operational fields."""
    return _plain(config, operational_too=False)


def resolved(config: Any) -> dict[str, Any]:
    """The whole config as plain values."""
    return _plain(config, operational_too=True)


def provenance(config: Any, settings: Settings) -> dict[str, str]:
    """Where each value of a built config was written; "default" where nobody wrote it."""
    return {path: settings.source(path) or "default" for path in flatten(resolved(config))}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each dotted key whose value differs.

    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c: 2 -> 3']
    """
    before, after = flatten(old), flatten(new)
    absent = object()

    def show(value: Any) -> str:
        return "not set" if value is absent else repr(value)

    pairs = {key: (before.get(key, absent), after.get(key, absent)) for key in {**before, **after}}
    return [f"{key}: {show(a)} -> {show(b)}" for key, (a, b) in pairs.items() if a != b]


def _plain(value: Any, *, operational_too: bool) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            item.name: _plain(getattr(value, item.name), operational_too=operational_too)
            for item in dataclasses.fields(value)
            if operational_too or not item.metadata.get("operational")
        }
    if isinstance(value, (tuple, list)):
        return [_plain(item, operational_too=operational_too) for item in value]
    if isinstance(value, Mapping):
        return {k: _plain(v, operational_too=operational_too) for k, v in value.items()}
    return value


def _build(cls: type[T], values: Any, prefix: str, settings: Settings) -> T:
    if not isinstance(values, dict):
        raise _wrong(prefix.rstrip("."), "a table", values, settings)
    fields = {item.name: item for item in dataclasses.fields(typing.cast(Any, cls)) if item.init}
    for key in values:
        if key not in fields:
            raise _unknown_key(prefix + str(key), str(key), fields, settings)
    for name, item in fields.items():
        if name not in values and _is_required(item):
            raise UserError(f"setting {prefix + name!r} is required and missing")
    kinds = typing.get_type_hints(cls)
    made = {key: _convert(kinds[key], v, prefix + key, settings) for key, v in values.items()}
    return cls(**made)


def _is_required(item: dataclasses.Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(kind: Any, value: Any, path: str, settings: Settings) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        (member,) = [member for member in arguments if member is not type(None)]
        return None if value is None else _convert(member, value, path, settings)
    if origin is Literal:
        return _convert_literal(arguments, value, path, settings)
    if origin in (tuple, list):
        if not isinstance(value, list):
            raise _wrong(path, "a list", value, settings)
        return origin(
            _convert(arguments[0], v, f"{path}[{i}]", settings) for i, v in enumerate(value)
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(path, "a table", value, settings)
        return {k: _convert(arguments[1], v, f"{path}.{k}", settings) for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type, kind), value, path + ".", settings)
    return _convert_scalar(kind, value, path, settings)


_WORDS = {str: "text", int: "an integer", bool: "true or false", float: "a finite number"}


def _convert_scalar(kind: Any, value: Any, path: str, settings: Settings) -> Any:
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    elif type(value) is kind:
        return value
    raise _wrong(path, _WORDS[kind], value, settings)


def _convert_literal(options: tuple, value: Any, path: str, settings: Settings) -> Any:
    if any(type(value) is type(option) and value == option for option in options):
        return value
    guess = nearest(str(value), map(str, options))
    hint = f"; did you mean {guess!r}?" if guess else ""
    wanted = "one of " + ", ".join(map(str, options))
    raise _wrong(path, wanted, value, settings, hint)


def _wrong(path: str, wanted: str, value: Any, settings: Settings, hint: str = "") -> UserError:
    where = _where(path, settings)
    return UserError(f"{where}setting {path!r} must be {wanted}, got {value!r:.80}{hint}")


def _unknown_key(path: str, key: str, fields: Mapping[str, Any], settings: Settings) -> UserError:
    guess = nearest(key, fields)
    hint = f"; did you mean {guess!r}?" if guess else ""
    known = ", ".join(fields)
    return UserError(f"{_where(path, settings)}unknown setting {path!r}; known: {known}{hint}")


def _where(path: str, settings: Settings) -> str:
    source = settings.source(path)
    return f"{source}: " if source else ""
