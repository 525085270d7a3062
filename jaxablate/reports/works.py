"""The works that a source of files is made of, as a table that comes with the files."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jaxablate.core.errors import UserError

COLUMNS = ("path", "source", "licence")


@dataclass(frozen=True, kw_only=True)
class Work:
    """A book: its title as its file's name tells it, and where the text comes from."""

    title: str
    source: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """All works under one licence, by title. `attributed`: the licence asks for their source."""

    licence: str
    works: tuple[Work, ...]
    attributed: bool

    @property
    def places(self) -> tuple[str, ...]:
        """Where the texts come from."""
        return tuple(dict.fromkeys(work.source for work in self.works))


def read_works(path: str | Path) -> tuple[Shelf, ...]:
    """The works of a tab-separated table with the columns path, source and licence.

    Raises:
        UserError: for a file that is missing, no table, or without one of the columns.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: not a table of tab-separated text") from None
    missing = [name for name in COLUMNS if not rows or not rows[0].get(name)]
    if missing:
        raise UserError(
            f"{path}: wanted a table with the columns {', '.join(COLUMNS)}, lacks {missing[0]!r}"
        )
    works = [_work(row) for row in rows]
    return tuple(_shelf(licence, works) for licence in dict.fromkeys(w.licence for w in works))


def _work(row: dict[str, str]) -> Work:
    title = PurePosixPath(row["path"]).stem.replace("_", " ").replace("-", " ")
    return Work(title=title, source=row["source"] or "?", licence=row["licence"] or "?")


def _shelf(licence: str, works: Sequence[Work]) -> Shelf:
    own = sorted((w for w in works if w.licence == licence), key=lambda work: work.title)
    return Shelf(licence=licence, works=tuple(own), attributed=licence.upper().startswith("CC"))
