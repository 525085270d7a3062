"""The whole study on a small model that comes with the package: offline, two cores, three minutes.

It converts the model, scores it under a causal mask and with its prompt read both ways, finetunes
it under either mask, scores what came out, probes the masks for leaks, and writes a report. It is
an experiment like any other: --print-config prints its file, to copy and to edit, and
`jaxablate run` runs the copy. What is done is skipped, what was stopped goes on.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxablate.cli.parser import Parser
from jaxablate.cli.terminal import print_table, say
from jaxablate.core.text import visible

EXAMPLES = """
jaxablate quickstart
jaxablate quickstart --out runs/quickstart
jaxablate quickstart --checkpoint Qwen/Qwen3-0.6B --out runs/qwen3
jaxablate quickstart --print-config > my.yaml && jaxablate run my.yaml
"""

CONFIG = Path(__file__).parents[1] / "quickstart" / "quickstart.yaml"
SOURCE = "stages.model.source"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the experiment (default: runs/quickstart)"
    )
    parser.add_argument(
        "--checkpoint", metavar="MODEL", help="folder or hub id (default: ref-6m, bundled)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; repeatable"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the experiment's file and stop; with other settings, all of them written out",
    )


def run(args: argparse.Namespace) -> int:
    """Run what is not done, and say what came out, where it is and what to do next."""
    from jaxablate.cli.run import broken_stages, run_plan
    from jaxablate.experiments.plan import make_plan

    plan = make_plan(read_arguments(args), args.out)
    if args.print_config:
        print(_as_file(plan, is_changed=bool(args.set or args.checkpoint)), end="")
        return 0
    began = time.monotonic()
    say(f"{len(plan.jobs())} steps into {plan.root}; stop it when you like, it goes on from there")
    outcome = run_plan(plan, say=timed(began))
    broken = broken_stages(plan)
    for name, sentence in broken.items():
        say(f"{name}: {sentence}")
    show_results(plan.root)
    show_leaks([job.path for job in plan.jobs() if job.kind == "probe"])
    _show_next(plan, outcome.page, time.monotonic() - began)
    return 1 if broken else 0


def read_arguments(args: argparse.Namespace) -> Any:
    """The experiment's file, the checkpoint and --set, each value with its origin."""
    from jaxablate.core.settings import Settings, merge, read_settings

    settings = read_settings([CONFIG])
    if args.checkpoint is not None:
        source = {"stages": {"model": {"source": args.checkpoint}}}
        settings = merge(settings, Settings(source, {SOURCE: "--checkpoint"}))
    return merge(settings, read_settings([], args.set))


def timed(began: float) -> Callable[[str], None]:
    """Says sentences with the time since `began`."""
    from jaxablate.evaluation.progress import duration

    return lambda sentence: say(f"[{duration(time.monotonic() - began)}] {sentence}")


def show_results(root: Path) -> None:
    """Print the base under both masks, what was finetuned under the ablating one, and the words."""
    from jaxablate.reports.experiment import load_experiment
    from jaxablate.reports.overview import build_overview

    study = load_experiment(root)
    view = build_overview(study)
    columns = {column.mask: column for column in view.columns}
    base, *tuned = view.models
    ablated = study.criteria.mask
    wanted = [(base, study.criteria.baseline_mask), *((m, ablated) for m in (base, *tuned))]
    shown = [(model, columns[mask]) for model, mask in wanted if mask in columns]
    rows = []
    for task in (*view.tasks, None):
        found = [view.result(model, column, task) for model, column in shown]
        chance = next((f"{one.chance:.2f}" for one in found if one), "")
        rows.append((task or "all tasks", *map(_score, found), chance))
    header = [f"{model.name} {column.mask}" for model, column in shown]
    print_table(("accuracy [95 %]", *header, "chance"), rows)
    print("\n".join([*map(visible, view.summary), ""]))


def _score(result: Any) -> str:
    """Accuracy and interval; its only space is where a narrow terminal may break it."""
    if result is None:
        return ""
    one = result.accuracy
    return f"{one.value:.2f} [{one.low:.2f},{one.high:.2f}]"


def show_leaks(probes: Sequence[Path]) -> None:
    """Say of each probed mask whether something leaked."""
    from jaxablate.reports.leakage import load_leaks

    for leak in (leak for path in probes for leak in load_leaks(path, "base")):
        moved = f"LEAKY, a logit moved by {leak.future_change:.2g}"
        verdict = moved if leak.leaks else "clean, no bit moved"
        print(f"{visible(leak.mask)}: {verdict} when its own target and what follows were changed")


def _as_file(plan: Any, *, is_changed: bool) -> str:
    """The file with its comments; settings that differ from it are written out with all others."""
    if not is_changed:
        return CONFIG.read_text(encoding="utf-8")
    import yaml

    return yaml.safe_dump(plan.resolved(), sort_keys=False, allow_unicode=True)


def _show_next(plan: Any, page: Path, seconds: float) -> None:
    """Print where the report is, how long it took, and three commands to go on with."""
    from jaxablate.evaluation.progress import duration

    trained = [job.path for job in plan.jobs() if job.kind == "finetune"]
    commands = [
        ("the same study, to edit", "jaxablate quickstart --print-config > my.yaml"),
        ("and to run", "jaxablate run my.yaml"),
        *((f"score {path.name}", _eval(path)) for path in trained[-1:]),
        ("draw any mask", 'jaxablate mask "causal | within(prompt)" --layout "P4 R3"'),
    ]
    print(f"\ndone in {duration(seconds)}; open the report: {visible(page)}\nnext:")
    width = max(len(what) for what, _ in commands)
    for what, command in commands:
        print(f"  {visible(what):<{width}}  {visible(command)}")


def _eval(path: Path) -> str:
    return f"jaxablate eval {path} --tasks piqa --masks causal,prefix_lm --data benchmarks"
