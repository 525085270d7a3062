"""What many runs have in common is written out for the first of them only."""

from collections.abc import Iterable, Iterator
from typing import Any

# A fact shorter than this is as short as a reference to it.
LONG = 80
MOST_CHANGES = 8


def told_once(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Runs of an appendix; a fact that an earlier one has too says so, and what differs.

    Entries are tables with "id" and "facts", pairs of a name and a text of one line or several.
    """
    written: dict[str, list[tuple[str, list[str]]]] = {}
    for entry in entries:
        facts = []
        for name, text in entry["facts"]:
            known = written.setdefault(name, [])
            short = _reference(text.split("\n"), known) if len(text) > LONG else None
            if short is None:
                known.append((entry["id"], text.split("\n")))
            facts.append((name, text if short is None else short))
        yield {**entry, "facts": tuple(facts)}


def _reference(lines: list[str], known: list[tuple[str, list[str]]]) -> str | None:
    """The lines by what an earlier run has; None when too little is the same."""
    alike = [(run, old) for run, old in known if _keys(old) == _keys(lines)]
    if not alike:
        return None
    run, old = min(alike, key=lambda pair: len(_changed(lines, pair[1])))
    changed = _changed(lines, old)
    if not changed:
        return f"as in {run}"
    if len(changed) > min(MOST_CHANGES, len(lines) // 2):
        return None
    return "\n".join([f"as in {run}, but", *changed])


def _changed(lines: list[str], old: list[str]) -> list[str]:
    return [line for line, other in zip(lines, old, strict=True) if line != other]


def _keys(lines: list[str]) -> list[str]:
    return [line.split(":", 1)[0] for line in lines]
