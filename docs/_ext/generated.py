"""Sphinx extension: puts what is read from the code in place of `<!-- generated: NAME -->`.

Each NAME has a function that returns Markdown. Nothing is written to disk: a page is made anew at
every build, so it cannot differ from the code.
"""

import re
from collections.abc import Callable
from typing import Any

from reference import commands, configs, exit_codes, families, kernels, masks, results, tasks

MAKERS: dict[str, Callable[[], str]] = {
    "commands": commands.markdown,
    "configs": configs.markdown,
    "exit codes": exit_codes.markdown,
    "families": families.markdown,
    "kernels": kernels.markdown,
    "atoms": masks.atoms,
    "recipes": masks.recipes,
    "results": results.markdown,
    "tasks": tasks.markdown,
    "task sources": tasks.sources,
}
MARKER = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)


def expand(text: str) -> str:
    """A page's text with every marker replaced; an unknown name is a KeyError."""
    return MARKER.sub(lambda found: MAKERS[found[1]](), text)


def _expand_source(app: Any, name: str, source: list[str]) -> None:
    source[0] = expand(source[0])
    if MARKER.search(source[0]):
        raise ValueError(f"{name}: a generated text holds a marker")


def _always_read(app: Any, env: Any, added: set, changed: set, removed: set) -> list[str]:
    """Pages with a marker are read at every build: the code may have changed."""
    pages = {name: env.doc2path(name) for name in env.found_docs}
    written = {name: path for name, path in pages.items() if path.suffix == ".md"}
    return [name for name, path in written.items() if MARKER.search(path.read_text())]


def _short_types(app: Any, what: str, name: str, obj: Any, *rest: Any) -> tuple[Any, Any]:
    """`Float[Array, ...]` in signatures, wherever jax keeps its array type."""
    _, signature, returned = rest
    return tuple(text and text.replace("jaxlib._jax.", "") for text in (signature, returned))


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("source-read", _expand_source)
    app.connect("env-get-outdated", _always_read)
    app.connect("autodoc-process-signature", _short_types)
    app.connect("build-finished", results.copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
