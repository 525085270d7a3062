"""A finetuning run from its config to its folder. The same config continues or reads its run."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxablate.checkpoints.steps import StepStore
from jaxablate.core import processes
from jaxablate.core.config import differences, relevant
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest, read_json, write_json
from jaxablate.runs.folder import FINETUNE, MANIFEST, RunFolder, check, find, read_manifest
from jaxablate.runs.metrics import MetricsLog
from jaxablate.runs.observer import Observer, Observers
from jaxablate.training.config import FinetuneConfig
from jaxablate.training.keeper import Keeper
from jaxablate.training.loop import Loop
from jaxablate.training.progress import Progress
from jaxablate.training.setup import Setup, set_up
from jaxablate.training.speed import Speed
from jaxablate.training.stopping import StopRequest
from jaxablate.training.summary import summarise

CHECKPOINTS, METRICS_LOG, TIMING_LOG, EXAMPLES, SUMMARY = (
    "checkpoints",
    "metrics.jsonl",
    "timing.jsonl",
    "examples.json",
    "summary.json",
)


@dataclass(frozen=True)
class Outcome:
    """Where a run lies and what summary.json says of it."""

    path: Path
    summary: dict[str, Any]


def finetune(
    config: FinetuneConfig,
    *,
    provenance: dict[str, str] | None = None,
    observers: Sequence[Observer] = (),
    kind: str = FINETUNE,
) -> Outcome:
    """Train what a config names; a finished run is only read, an interrupted one goes on.

    Args:
        config: what to train, on what, and how.
        provenance: where each setting was written, for the manifest.
        observers: told of every line of metrics.
        kind: of run, as its manifest says: finetuned, or trained from nothing.

    Raises:
        UserError: for anything wrong with config, data, checkpoint or folder; before any step.
        Stopped: when asked to stop (SIGTERM, Ctrl-C); the state is saved.
        SaveError: when a checkpoint could not be written.
    """
    if processes.count() > 1 and not config.out:
        raise UserError("a run of several processes needs a folder that all of them know: set out")
    path = _path(config)
    finished = _finished(config, path, kind)
    if finished is not None:
        return finished
    setup = set_up(config)
    folder = _open(config, kind)
    where = folder.path if folder is not None else Path(config.out)
    told = Observers(observers)
    with StopRequest() as request, contextlib.closing(told):
        if folder is None:
            return Outcome(where, _train(setup, where, None, told, request))
        with folder:
            _begin(folder, setup, provenance)
            summary = _train(setup, where, folder, told, request)
            write_json(where / SUMMARY, summary)
            folder.finish("done")
    return Outcome(where, summary)


def _path(config: FinetuneConfig) -> Path | None:
    """The folder of this config's run, when there is one."""
    if config.out:
        return Path(config.out)
    return find(Path(config.runs), config.slug, relevant(config))


def _finished(config: FinetuneConfig, path: Path | None, kind: str) -> Outcome | None:
    if path is None or not (path / MANIFEST).exists():
        return None
    check(path, kind, relevant(config))
    if read_manifest(path)["status"] != "done":
        return None
    return Outcome(path, read_json(path / SUMMARY))


def _open(config: FinetuneConfig, kind: str) -> RunFolder | None:
    """The run's folder on the first process. Where it is refused, the others are told."""
    if not processes.is_first():
        if processes.agree(0) == 0:
            raise UserError(f"{config.out}: refused on process 0; its message says why")
        return None
    out = Path(config.out) if config.out else None
    try:
        folder = RunFolder.open(
            out.parent if out else config.runs,
            kind=kind,
            slug=config.slug,
            config=relevant(config),
            name=out.name if out else None,
        )
    except BaseException:
        processes.agree(0)
        raise
    processes.agree(1)
    return folder


def _facts(setup: Setup) -> dict[str, Any]:
    """What the run was begun with and must go on with."""
    return {
        "weights": setup.source.get("weights"),
        "tokenizer": setup.tokenizer,
        "data": digest(setup.data.facts),
        "order": setup.pipeline.fingerprint,
    }


def _begin(folder: RunFolder, setup: Setup, provenance: dict[str, str] | None) -> None:
    facts = _facts(setup)
    before = {name: folder.manifest[name] for name in facts if name in folder.manifest}
    changed = differences(before, facts) if before else []
    if changed:
        raise UserError(
            f"{folder.path}: weights, tokenizer or data are not those this run began with: "
            f"{'; '.join(changed)}"
        )
    write_json(folder.path / EXAMPLES, setup.data.ids())
    folder.note(
        **facts,
        source=setup.source,
        records=setup.data.facts,
        parameters=setup.parameters,
        leak=setup.leak,
        leaky=setup.leaky,
        devices=processes.devices(),
        provenance=provenance or {},
    )


def _train(
    setup: Setup, path: Path, folder: RunFolder | None, observers: Observers, request: StopRequest
) -> dict[str, Any]:
    config = setup.config
    store = StepStore(
        path / CHECKPOINTS,
        fence=None if folder is None else folder.fence,
        is_writer=folder is not None,
    )
    facts = {**_facts(setup), "model": _model(setup), "config": relevant(config)}
    keeper = Keeper(store, config.save, facts)
    found = keeper.restore(setup.state)
    state, progress = found or (keeper.drill(setup.state), Progress())
    observers.on_begin(_about(setup, path, progress))
    with _logs(path if folder is not None else None, progress) as (log, timing):
        loop = Loop(
            setup,
            keeper,
            progress,
            log=log,
            timing=timing,
            observers=observers,
            speed=_speed(setup),
        )
        loop.run(state, request)
    processes.agree(0)  # the last step is committed before anybody looks
    summary = summarise(setup, progress, loop.rules, store, loop.speed)
    observers.on_end(summary)
    return summary


Log = MetricsLog | None


@contextlib.contextmanager
def _logs(path: Path | None, progress: Progress) -> Iterator[tuple[Log, Log]]:
    """Results and timing, open for appending; without a path, none of either."""
    if path is None:
        yield None, None
        return
    with (
        MetricsLog(path / METRICS_LOG, progress.position) as log,
        MetricsLog(path / TIMING_LOG) as timing,
    ):
        yield log, timing


def _speed(setup: Setup) -> Speed:
    mesh = setup.prepare.mesh
    devices = None if mesh is None else list(mesh.devices.flat)
    width = setup.config.data.max_length
    return Speed(setup.decoder, setup.parameters, width=width, devices=devices)


def _model(setup: Setup) -> dict[str, Any]:
    """What `checkpoints.finetuned` needs to open a checkpoint as a language model."""
    config = setup.config
    low_rank = config.lora
    return {
        "kind": "full" if low_rank is None else "lora",
        "base": {
            "path": config.checkpoint,
            "weights": setup.source.get("weights"),
            "revision": setup.source.get("revision"),
        },
        "layout": config.layout,
        "config": dataclasses.asdict(setup.decoder),
        "lora": low_rank and {"rank": low_rank.rank, "alpha": low_rank.alpha, "dropout": 0.0},
        "mask": config.mask,
        "dtype": config.step.compute_dtype,
    }


def _about(setup: Setup, path: Path, progress: Progress) -> dict[str, Any]:
    """What observers are told before the first line."""
    config = setup.config
    return {
        "path": str(path),
        "run": path.name,
        "checkpoint": config.checkpoint,
        "mask": config.mask,
        "leaky": setup.leaky,
        "step": progress.step,
        "position": progress.position,
        "steps": config.steps,
        "parameters": setup.parameters,
        "data": setup.data.facts,
        "config": relevant(config),
    }
