"""Training and held-out records of a data set: which split is which, and how many are taken."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.data.hub import hub_splits
from jaxablate.data.records import Records, read_rows
from jaxablate.data.sources import SUFFIXES, choose, find_file, read_numbered

# The share of "train" that is held out where a data set has no other split.
HELD_OUT_SHARE = 0.02
# Held out is the first of these that there is.
HELD_OUT = ("validation", "test")


def load_splits(
    folder: str | Path | None,
    name: str,
    *,
    seed: int,
    train_limit: int = 0,
    eval_limit: int = 0,
    revision: str = "",
) -> tuple[Records, Records]:
    """Training and held-out records of `<folder>/<name>/`, or of a set on the hub.

    Held out is the split "validation", else "test", else a seeded 2 % of "train", which training
    then lacks. Limits of 0 take all.

    Args:
        folder: local data; None asks the hub, through `datasets`.
        name: of the data set.
        seed: of all choices.
        train_limit: records to train on.
        eval_limit: records held out.
        revision: of a set on the hub.

    Raises:
        UserError: for data that is missing, unreadable or without a usable record.
    """
    splits = _from_hub(name, revision) if folder is None else _from_folder(Path(folder), name)
    train = splits["train"]
    held_out = next((splits[split] for split in HELD_OUT if split in splits), None)
    if held_out is None:
        train, held_out = hold_out(train, seed=seed)
    return train.subset(train_limit, seed), held_out.subset(eval_limit, seed)


def hold_out(records: Records, *, seed: int) -> tuple[Records, Records]:
    """`records` without a seeded 2 %, and those 2 % (rounded up)."""
    total = len(records.rows)
    if total < 2:
        raise UserError(f"{records.origin}: {total} records cannot be split into train and eval")
    size = math.ceil(total * HELD_OUT_SHARE)
    taken = set(choose(total, limit=size, subset="random", seed=seed))
    kept = tuple(record for i, record in enumerate(records.rows) if i not in taken)
    out = tuple(record for i, record in enumerate(records.rows) if i in taken)
    origin = f"{records.origin} ({HELD_OUT_SHARE:.0%} held out, seed {seed})"
    return (
        replace(records, rows=kept, origin=origin, found=len(kept)),
        Records(out, {}, origin, found=len(out)),
    )


def read_records(path: Path, split: str) -> Records:
    """The records of one file; see `records.read_rows`."""
    rows = (row for _, row in read_numbered(path))
    return read_rows(rows, split, where=str(path), origin=f"{path.parent.name}/{path.name}")


def _from_folder(folder: Path, name: str) -> dict[str, Records]:
    paths = {"train": find_file(folder, name, "train")}
    for split in HELD_OUT:
        if any((folder / name / f"{split}{suffix}").is_file() for suffix in SUFFIXES):
            paths[split] = find_file(folder, name, split)
            break
    return {split: read_records(path, split) for split, path in paths.items()}


def _from_hub(name: str, revision: str) -> dict[str, Records]:
    tables: Mapping[str, Iterable[Any]] = hub_splits(name, revision)
    if "train" not in tables:
        found = ", ".join(tables) or "nothing"
        raise UserError(f"data set {name!r} has no split 'train'; found: {found}")
    held_out = next((split for split in HELD_OUT if split in tables), None)
    wanted = ["train"] if held_out is None else ["train", held_out]
    at = f"@{revision}" if revision else ""
    return {
        split: read_rows(
            tables[split],
            split,
            where=f"data set {name!r}, split {split!r}",
            origin=f"hub:{name}{at}, {split}",
        )
        for split in wanted
    }
