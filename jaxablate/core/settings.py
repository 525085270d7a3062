"""Settings as they are written: YAML files and dotted overrides, each value with its origin.

YAML is read by its 1.2 rules (`yes` is text, `1e-4` is a number), without tags, anchors, aliases
or repeated keys.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from jaxablate.core.errors import UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40


@dataclass(frozen=True)
class Settings:
    """Nested values. `provenance` says of each dotted key where its value was written."""

    values: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)

    def source(self, path: str) -> str | None:
        """Where the value at a dotted path, or the nearest table around it, was written."""
        parts = path.partition("[")[0].split(".")
        paths = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
        return next((self.provenance[p] for p in paths if p in self.provenance), None)


def read_settings(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Settings:
    """YAML files, later ones winning, and then overrides such as "train.lr=1e-4".

    Raises:
        UserError: that names the file and line, or the override.
    """
    settings = Settings()
    for more in (*map(read_yaml, files), *map(read_override, overrides)):
        settings = merge(settings, more)
    return settings


def merge(first: Settings, second: Settings) -> Settings:
    """Values of `second` replace those of `first`; tables are merged key by key."""
    values = _merge(first.values, second.values)
    sources = {**first.provenance, **second.provenance}
    return Settings(values, {path: sources[path] for path in flatten(values)})


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values; an empty table is a value.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_yaml(path: str | Path) -> Settings:
    """The table in one YAML file; raises `UserError` that names file and line."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path}: a config has at most {MAX_BYTES} bytes, this one {len(raw)}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Settings:
    """The table in YAML text; `where` stands in errors and in the provenance."""
    node = _compose(text, where)
    if node is None:
        return Settings()
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{where}: wanted a table of settings")
    lines: dict[str, str] = {}
    return Settings(_table(node, where, "", lines), lines)


def read_override(text: str) -> Settings:
    """One "key=value" or "table.key=value"; the value is YAML.

    >>> read_override("train.steps=3").values
    {'train': {'steps': 3}}
    """
    name, equals, raw = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise UserError(f"an override reads key=value or table.key=value, got {text!r}")
    node = _compose(raw, f"override {text!r}")
    value = None if node is None else _value(node, f"override {text!r}", "", {})
    for part in reversed(parts):
        value = {part: value}
    assert isinstance(value, dict)
    return Settings(value, dict.fromkeys(flatten(value), f"override {text!r}"))


def _merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    merged = dict(first)
    for key, value in second.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merge(old, value)
        merged[key] = value
    return merged


class _Loader(yaml.SafeLoader):
    """A loader whose plain scalars mean what YAML 1.2 says."""

    yaml_implicit_resolvers: ClassVar[dict] = {}


_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", _NUMBER, list("-+0123456789.")),
):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


def _compose(text: str, where: str) -> yaml.Node | None:
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            _refuse_tricks(event, depth, where)
        return yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}{line}: not valid YAML ({' '.join(reason.split())})") from None


def _refuse_tricks(event: Any, depth: int, where: str) -> None:
    line = f"{where}:{event.start_mark.line + 1}"
    if depth > MAX_DEPTH:
        raise UserError(f"{line}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise UserError(f"{line}: anchors and aliases are not allowed (quote a text with & or *)")
    if getattr(event, "tag", None):
        raise UserError(f"{line}: a tag is not allowed, got {event.tag!r}")


def _value(node: yaml.Node, where: str, path: str, lines: dict[str, str]) -> Any:
    """Plain value of a node; notes the line of what is not a table under its path."""
    if isinstance(node, yaml.MappingNode) and node.value:
        return _table(node, where, path, lines)
    lines[path] = f"{where}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, where, f"{path}[{i}]", {}) for i, item in enumerate(node.value)]
    return {} if isinstance(node, yaml.MappingNode) else _scalar(node)


def _table(node: yaml.MappingNode, where: str, path: str, lines: dict[str, str]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = f"{where}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{line}: a key must be a word")
        key = key_node.value
        if key in table:
            raise UserError(f"{line}: key {key!r} is given twice")
        table[key] = _value(value_node, where, f"{path}.{key}" if path else key, lines)
    return table


def _scalar(node: yaml.Node) -> Any:
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() == "true"
    return {"int": int, "float": float}.get(kind, str)(node.value)
