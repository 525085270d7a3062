"""Paths as a report shows them: the same wherever the runs lie."""

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from jaxablate.core.files import digest
from jaxablate.reports.finetune import FinetuneRun
from jaxablate.reports.load import Run

AnyRun = TypeVar("AnyRun", Run, FinetuneRun)
# An absolute path that stands by itself; what it is called is a fact, where it lies is not.
_PLACE = re.compile(r"""(^|(?<=[\s"'=(\[]))/(?:[^\s/"',;]+/)*([^\s/"',;]+)/?""")


def without_places(text: str) -> str:
    """A text in which absolute paths are cut to their last part.

    >>> without_places("data: /home/me/sets/alpaca, runs/a/b")
    'data: .../alpaca, runs/a/b'
    """
    return _PLACE.sub(r".../\2", text)


def moved(run: AnyRun, places: Collection[str]) -> AnyRun:
    """A run whose manifest names paths into the folders `places` from these folders on.

    Where that changes its config, the fingerprint is that of the changed config.
    """
    manifest = _portable(dict(run.manifest), places)
    if manifest["config"] != run.config:
        manifest["fingerprint"] = digest(manifest["config"])
    return replace(run, manifest=manifest)


def _portable(value: Any, places: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _portable(entry, places) for key, entry in value.items()}
    if isinstance(value, list):
        return [_portable(entry, places) for entry in value]
    return _from_folder(value, places) if isinstance(value, str) else value


def _from_folder(text: str, places: Collection[str]) -> str:
    """A path from a run's folder on; every other text as it is.

    >>> _from_folder("/tmp/x/sft-1a2b3c/checkpoints", ["sft-1a2b3c"])
    'sft-1a2b3c/checkpoints'
    """
    parts = PurePosixPath(text).parts
    found = next((index for index, part in enumerate(parts) if part in places), None)
    return text if found is None else "/".join(parts[found:])
