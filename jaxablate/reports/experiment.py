"""An experiment's folder: its stages' runs in, `report.html` and `report.md` out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import read_json
from jaxablate.reports import finetune, leakage, load
from jaxablate.reports.finetune import FinetuneRun
from jaxablate.reports.overview import build_overview
from jaxablate.reports.published import read_published
from jaxablate.reports.render import experiment_html, experiment_markdown, write_pages
from jaxablate.reports.replicas import grouped
from jaxablate.reports.shapes import Maybe, match
from jaxablate.reports.study import BASE, Criteria, Dose, Model, Scored, Study, Sweep
from jaxablate.runs.folder import TRAINING, read_manifest

EXPERIMENT = "experiment.json"
FORMAT = 1
MAKES = "model"  # kind of a stage that makes an untrained checkpoint

_CRITERIA = {
    "recovery": Maybe(float),
    "gain": Maybe(float),
    "regression_margin": Maybe(float),
    "tuned": Maybe(str),
    "mask": Maybe(str),
    "baseline_mask": Maybe(str),
}
_STAGE = {
    "name": str,
    "kind": str,
    "model": Maybe(str),
    "run": Maybe(str),
    "title": Maybe(str),
    "seed": Maybe(int),
    "group": Maybe(str),
    "dose": Maybe({"axis": str, "counts": [int], "masks": [str]}),
    "sweep": Maybe({"setting": str, "group": str}),
}
SHAPE = {
    "format": int,
    "name": str,
    "stages": [_STAGE],
    "criteria": Maybe(_CRITERIA),
    "fingerprint": Maybe(str),
}


def is_experiment(folder: str | Path) -> bool:
    """Whether a folder holds an experiment rather than one run."""
    return (Path(folder) / EXPERIMENT).is_file()


def write_report(
    folder: str | Path,
    out: Path | None = None,
    *,
    title: str | None = None,
    published: str | Path | None = None,
) -> tuple[Path, Path]:
    """Write the page and its Markdown twin; returns their paths.

    Equal run folders give equal bytes: times, attempts, rates and places are left out.

    Args:
        folder: the experiment's.
        out: name without suffix; default: `report` in the folder.
        title: heading; default: the experiment's name.
        published: file of claims beside which its numbers are set, see `reports.published`.

    Raises:
        UserError: for a folder or a file that is missing or not as it should be.
    """
    claims = read_published(published) if published else None
    view = build_overview(load_experiment(folder, title=title), claims)
    name = out or Path(folder) / "report"
    return write_pages(name, experiment_html(view), experiment_markdown(view))


def load_experiment(folder: str | Path, *, title: str | None = None) -> Study:
    """The study in a folder; raises `UserError` that names what is missing or wrong."""
    root = Path(folder)
    path = root / EXPERIMENT
    table = read_json(path)
    match(table, SHAPE, "", path)
    if table["format"] != FORMAT:
        raise UserError(f"{path}: has format {table['format']}, this version reads {FORMAT}")
    stages = [stage for stage in table["stages"] if stage.get("run")]
    names = [stage["name"] for stage in stages]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two stages are named {twice!r}")
    models = {BASE: Model(name=BASE, title=BASE)}
    for stage in stages:
        if stage["kind"] in TRAINING:
            models[stage["name"]] = _trained(stage, root, path)
        elif stage["kind"] == MAKES:
            models[stage["name"]] = Model(name=stage["name"], title=_title(stage))
    maker = _maker(stages, models, root, path)
    models[BASE] = replace(models[BASE], maker=maker)
    groups = grouped(models, stages)
    found = {model.name: model for model in groups.values()}
    scored = [_scored(stage, models, root, path) for stage in stages if stage["kind"] == load.KIND]
    return Study(
        title=title or table["name"],
        models=tuple(found.values()),
        scored=tuple(replace(one, model=groups[one.model.name]) for one in scored),
        criteria=_criteria(table.get("criteria") or {}, found, path),
        facts=(
            ("experiment", table["name"]),
            ("config fingerprint", str(table.get("fingerprint") or "?")),
            *((("base", f"made by run {maker.id}"),) if maker else ()),
            ("stages", "\n".join(_stage_line(stage) for stage in table["stages"])),
        ),
        places=tuple(PurePosixPath(stage["run"]).name for stage in stages),
        leaks=tuple(leak for stage in stages for leak in _leaks(stage, root, path)),
    )


def run_folder(stage: Mapping[str, Any], root: Path, path: Path) -> Path:
    """A stage's folder, inside of the experiment's."""
    place = PurePosixPath(stage["run"])
    if place.is_absolute() or ".." in place.parts:
        raise UserError(f"{path}: the run of stage {stage['name']!r} is outside of the experiment")
    folder = root / place
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such run folder; stage {stage['name']!r} should have left it"
        )
    return folder


def _leaks(stage: Mapping[str, Any], root: Path, path: Path) -> tuple[leakage.Leak, ...]:
    if stage["kind"] != leakage.KIND:
        return ()
    return leakage.load_leaks(run_folder(stage, root, path), stage.get("model") or BASE)


def _title(stage: Mapping[str, Any]) -> str:
    return stage.get("title") or stage["name"]


def _trained(stage: Mapping[str, Any], root: Path, path: Path) -> Model:
    run = finetune.load_finetune(run_folder(stage, root, path))
    return Model(name=stage["name"], title=_title(stage), run=run, sweep=_sweep(stage, path))


def _maker(
    stages: Sequence[Mapping[str, Any]], models: Mapping[str, Model], root: Path, path: Path
) -> FinetuneRun | None:
    """The training of this experiment that made what is scored as the base, if one did.

    Where nothing is scored under that name, it is the only pretraining.
    """
    scored = [s for s in stages if s["kind"] == load.KIND and (s.get("model") or BASE) == BASE]
    found = [read_manifest(run_folder(stage, root, path)) for stage in scored]
    if not scored:
        pretrained = [m.run for m in models.values() if m.run and m.run.from_nothing]
        return pretrained[0] if len(pretrained) == 1 else None
    made = {source and source[0] for source in map(finetune.finetuned_from, found)}
    if len(made) != 1:  # no run of this experiment made it; what scored another model is refused
        return None
    return next((m.run for m in models.values() if m.run and m.run.id in made), None)


def _sweep(stage: Mapping[str, Any], path: Path) -> Sweep | None:
    sweep = stage.get("sweep")
    if not sweep:
        return None
    value = sweep.get("value")
    if not isinstance(value, str | int | float):
        raise UserError(f"{path}: stage {stage['name']!r} has a sweep without a value")
    return Sweep(setting=sweep["setting"], value=value, group=sweep["group"])


def _scored(
    stage: Mapping[str, Any], models: Mapping[str, Model], root: Path, path: Path
) -> Scored:
    name = stage.get("model") or BASE
    if name not in models:
        raise unknown(f"model of stage {stage['name']} in {path}", name, models)
    model, base = models[name], models[BASE]
    if model.run and base.maker and model.run.id == base.maker.id:
        model = base  # scored under its stage's name
    run = load.load_run(run_folder(stage, root, path))
    _check_model(stage, models, run, path)
    return Scored(
        model=model,
        run=run,
        title=_title(stage),
        dose=_dose(stage, path),
        seed=stage.get("seed"),
        group=stage.get("group") or stage["name"],
    )


def _check_model(
    stage: Mapping[str, Any], models: Mapping[str, Model], run: load.Run, path: Path
) -> None:
    """A run must have scored the model that its stage names; the base may be made elsewhere."""
    model = models[stage.get("model") or BASE]
    if not isinstance(run.manifest.get("source"), dict):
        return
    made = finetune.finetuned_from(run.manifest)
    trained = model.run or model.maker
    wanted = trained.id if trained else None
    got = made[0] if made else None
    here = {each.run.id for each in models.values() if each.run}
    if got != wanted and (wanted is not None or got in here):
        raise UserError(
            f"{path}: stage {stage['name']!r} says that it scored {wanted or 'the base'}, its run "
            f"scored {got or 'the base'}"
        )


def _dose(stage: Mapping[str, Any], path: Path) -> Dose | None:
    dose = stage.get("dose")
    if not dose:
        return None
    if len(dose["counts"]) != len(dose["masks"]):
        raise UserError(
            f"{path}: stage {stage['name']!r} has {len(dose['counts'])} counts for "
            f"{len(dose['masks'])} masks"
        )
    return Dose(axis=dose["axis"], counts=tuple(dose["counts"]), masks=tuple(dose["masks"]))


def _criteria(table: Mapping[str, Any], models: Mapping[str, Model], path: Path) -> Criteria:
    given = {key: table[key] for key in _CRITERIA if table.get(key) is not None}
    tuned = given.get("tuned")
    if tuned and (tuned not in models or tuned == BASE):
        raise unknown(f"tuned model of the criteria in {path}", tuned, set(models) - {BASE})
    return Criteria(**given)


def _stage_line(stage: Mapping[str, Any]) -> str:
    return f"{stage['name']}: {stage['kind']}, run {stage.get('run') or 'none'}"
