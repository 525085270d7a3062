"""Every setting of every config: its key, type, default and text."""

import dataclasses
import importlib
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union

from reference import docstrings
from reference.markdown import code, table, target

# Heading, sentence, and the dataclasses that the settings build, outermost first.
ROOTS = (
    (
        "Evaluation",
        "`jaxablate eval`, `evaluate` of an experiment, and its stages of kind `evaluate`.",
        ("jaxablate.evaluation.config.EvalConfig",),
    ),
    (
        "Finetuning",
        "`jaxablate finetune`, `finetune` of an experiment, and its stages of kind `finetune`.",
        ("jaxablate.training.config.FinetuneConfig",),
    ),
    (
        "Pretraining",
        "`jaxablate pretrain`, and stages of kind `pretrain`.",
        ("jaxablate.training.pretrain.PretrainConfig",),
    ),
    (
        "Experiments",
        "`jaxablate run`. A stage is a table with a `kind`; what else it holds is a setting of its "
        "kind, see [Study a model](../how-to/study.md).",
        (
            "jaxablate.experiments.spec.ExperimentConfig",
            "jaxablate.experiments.dose.Dose",
            "jaxablate.experiments.stages.sweep.SweepConfig",
            "jaxablate.experiments.stages.probe.ProbeConfig",
            "jaxablate.experiments.stages.convert.ConvertConfig",
            "jaxablate.experiments.stages.model.ModelConfig",
        ),
    ),
)


def markdown() -> str:
    """All tables; a dataclass that occurs twice has its table at the first place."""
    shown: set[type] = set()
    parts = []
    for heading, sentence, names in ROOTS:
        parts += [f"## {heading}\n", f"{sentence}\n"]
        for name in names:
            for cls in nested(find(name)):
                if cls not in shown:
                    shown.add(cls)
                    parts.append(section(cls))
    return "\n".join(parts)


def find(name: str) -> type:
    """The class of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def nested(cls: type) -> Iterator[type]:
    """A dataclass and all that its fields hold, outermost first."""
    yield cls
    for kind in typing.get_type_hints(cls).values():
        for inner in _dataclasses_in(kind):
            yield from nested(inner)


def section(cls: type) -> str:
    """Heading, summary and table of one dataclass; what it inherits is in its base's table."""
    base = next((one for one in cls.__mro__[1:] if dataclasses.is_dataclass(one)), None)
    inherited = f"The other keys are those of {_link(base)}.\n" if base else ""
    text = docstrings.prose(cls) + "\n"
    return "\n".join((target(anchor(cls)), f"### {cls.__name__}\n", text, inherited, keys(cls)))


def _link(cls: type) -> str:
    return f"[{cls.__name__}](#{anchor(cls)})"


def anchor(cls: type) -> str:
    """The name of a dataclass's section."""
    return f"config-{cls.__name__.lower()}"


def keys(cls: type) -> str:
    """Key, type, default and text of every own field; a field without a text is a KeyError."""
    kinds, texts = typing.get_type_hints(cls), docstrings.attributes(cls)
    rows = []
    for item in dataclasses.fields(cls):
        if item.init and item.name in vars(cls)["__annotations__"]:
            note = " (changes no result)" if item.metadata.get("operational") else ""
            text = texts[item.name] + note
            rows.append((code(item.name), shown_type(kinds[item.name]), shown_default(item), text))
    return table(("key", "type", "default", ""), rows)


def shown_type(kind: Any) -> str:
    """A type as one would say it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        members = [shown_type(member) for member in arguments if member is not type(None)]
        return " or ".join((*members, code("null")))
    if origin is Literal:
        return ", ".join(code(str(option)) for option in arguments)
    if origin in (tuple, list):
        return f"list of {shown_type(arguments[0])}"
    if dataclasses.is_dataclass(kind):
        return _link(typing.cast(type, kind))
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(kind, {dict: "table", list: "list"}.get(origin or kind, str(kind)))


def shown_default(item: dataclasses.Field) -> str:
    """A default as it would be written in YAML."""
    if item.default is not dataclasses.MISSING:
        made = item.default
        return "its defaults" if dataclasses.is_dataclass(made) else code(_yaml(made))
    if item.default_factory is not dataclasses.MISSING:
        made = item.default_factory()
        return "its defaults" if dataclasses.is_dataclass(made) else code(_yaml(made))
    return "required"


def _yaml(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_yaml, value))}]"
    words = {None: "null", True: "true", False: "false", "": '""'}
    return (
        words[value]
        if isinstance(value, (str, bool, type(None))) and value in words
        else str(value)
    )


def _dataclasses_in(kind: Any) -> Iterator[type]:
    if dataclasses.is_dataclass(kind):
        yield typing.cast(type, kind)
    for argument in typing.get_args(kind):
        yield from _dataclasses_in(argument)
