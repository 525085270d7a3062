"""One saved step on disk: Orbax's arrays, and a manifest of every file and every array.

step-00000020/
    arrays/          written by Orbax
    manifest.json    step, the run's record, each array's shape, dtype and digest, each file's
"""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxablate.checkpoints.manifest import (
    NAME,
    describe_array,
    digest_array,
    is_here,
    read_manifest,
    verify_files,
    write_manifest,
)
from jaxablate.checkpoints.placement import whole
from jaxablate.core.errors import UserError

ARRAYS = "arrays"
FORMAT = "jaxablate-step"

_NAME = re.compile(r"step-(\d{8,})")


class Saved(NamedTuple):
    """A committed step whose files are as they were written."""

    step: int
    path: Path
    record: dict[str, Any]


def name_of(step: int) -> str:
    """The folder's name.

    >>> name_of(20)
    'step-00000020'
    """
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step of a folder's name, or None for another name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and name_of(int(match[1])) == name else None


def snapshot(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray | jax.Array]:
    """Copies on the host, which outlive the device arrays; of other processes' arrays nothing."""
    here = {path: array for path, array in arrays.items() if is_here(array)}
    copies = jax.device_get(here)
    for path, array in here.items():
        if any(device.platform == "cpu" for device in array.devices()):
            copies[path] = np.array(copies[path])  # else a view of the device's own memory
    return {path: copies.get(path, array) for path, array in arrays.items()}


def write_arrays(
    folder: Path, arrays: Mapping[str, np.ndarray | jax.Array]
) -> Callable[[], object]:
    """Start writing below `folder`; the result waits until all is written."""
    from orbax.checkpoint import v1 as ocp

    # Orbax has no place for arrays without content; the manifest describes them.
    filled = {path: array for path, array in arrays.items() if array.size}
    if not filled:
        return lambda: None
    with _settings():
        return ocp.save_async(str((folder / ARRAYS).absolute()), filled).result


def describe(
    step: int, arrays: Mapping[str, np.ndarray | jax.Array], record: Mapping[str, Any]
) -> dict[str, Any]:
    """What the manifest says beside the files."""
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter
        entries = dict(zip(arrays, pool.map(describe_array, arrays.values()), strict=True))
    return {"step": step, "record": record, "arrays": entries}


def write_record(folder: Path, body: Mapping[str, Any]) -> None:
    """Digest every file and write the manifest."""
    write_manifest(folder, body, format=FORMAT)


def read_step(folder: Path) -> Saved:
    """The step in a folder.

    Raises:
        UserError: naming the first file that is missing, foreign, or changed by even one bit.
    """
    manifest = read_manifest(folder, format=FORMAT)
    verify_files(folder, manifest)
    step = step_of(folder.name)
    if step is not None and step != manifest["step"]:
        raise UserError(f"{folder / NAME}: is of step {manifest['step']}, not of step {step}")
    return Saved(manifest["step"], folder, manifest["record"])


def entries_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Shape, dtype and SHA-256 (or None) of every array, by name."""
    return read_manifest(folder, format=FORMAT)["arrays"]


def read_arrays(
    folder: Path, wanted: Mapping[str, jax.ShapeDtypeStruct], *, some: bool = False
) -> dict[str, jax.Array]:
    """The arrays, placed as `wanted` says, compared with their digests.

    Args:
        folder: of one step.
        wanted: shape, dtype and place of each array.
        some: whether arrays that are not wanted may be there; they are not read.

    Raises:
        UserError: unless names, shapes and dtypes are exactly those, or when a digest differs.
    """
    entries = entries_of(folder)
    _check_wanted(folder, entries, wanted, some=some)
    placed = {path: _placed(like) for path, like in wanted.items()}
    arrays = {path: _empty(like) for path, like in placed.items() if not like.size}
    if filled := {path: like for path, like in placed.items() if like.size}:
        arrays |= _load(folder / ARRAYS, filled)
    with ThreadPoolExecutor() as pool:
        checks = pool.map(lambda path: _is_intact(arrays[path], entries[path]), wanted)
        for path, intact in zip(wanted, checks, strict=True):
            if not intact:
                raise UserError(f"{folder}: array {path!r} is not what was written (SHA-256)")
    return {path: arrays[path] for path in wanted}


def _load(folder: Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    from orbax.checkpoint import v1 as ocp

    with _settings():
        return ocp.load(str(folder.absolute()), dict(wanted))


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    # Made in the background, a folder that cannot be made leaves threads that wait for minutes.
    context.asynchronous.create_directories_asynchronously = False
    context.pytree.loading.partial_load = True  # which names there must be is checked before
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_not_orbax_error)
    with context:
        yield


def _is_not_orbax_error(record: logging.LogRecord) -> bool:
    """Each of Orbax's threads prints the trace of an error; it is raised too, which is enough."""
    where = f"{record.pathname} {record.getMessage()}"
    return record.levelno < logging.ERROR or "orbax" not in where


def _check_wanted(
    folder: Path,
    entries: Mapping[str, Any],
    wanted: Mapping[str, jax.ShapeDtypeStruct],
    *,
    some: bool,
) -> None:
    missing = sorted(wanted.keys() - entries.keys())
    extra = [] if some else sorted(entries.keys() - wanted.keys())
    if missing or extra:
        raise UserError(
            f"{folder}: other arrays than wanted: missing {missing}, unexpected {extra}"
        )
    for path, like in wanted.items():
        got = tuple(entries[path]["shape"]), entries[path]["dtype"]
        if got != (like.shape, str(like.dtype)):
            raise UserError(
                f"{folder}: array {path!r} is {got[1]} {list(got[0])}, "
                f"wanted {like.dtype} {list(like.shape)}"
            )


def _placed(like: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = like.sharding or whole(None)
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding)


def _empty(like: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(like.shape, like.dtype, device=like.sharding)


def _is_intact(array: jax.Array, entry: Mapping[str, Any]) -> bool:
    if entry["sha256"] is None or not is_here(array):
        return True
    return digest_array(np.asarray(array)) == entry["sha256"]
