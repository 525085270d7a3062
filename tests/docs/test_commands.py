"""Every command, setting and piece of Python in README and docs works.

One mechanism for all pages. What is done with a fenced block depends on its language:

    bash       executed, in order, in a temporary folder; `# exit code 2` is what is expected
    python     executed, in order with the commands
    yaml       built as the settings of the command it is for
    json       read as a record of instruction data
    console    a GPU, a cluster or the hub: its commands are parsed, not executed
    py, sh     shown only: it is compiled, or its commands are parsed
    (none)     its commands are parsed
"""

import functools
import json
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

from jaxablate.cli import compile_cache
from jaxablate.core.config import build
from jaxablate.core.settings import parse_yaml
from jaxablate.data import synthetic
from jaxablate.data.records import read_rows
from jaxablate.data.sources import SOURCES
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.task import TASKS, task_names
from jaxablate.experiments.plan import make_plan
from jaxablate.experiments.tiny import write_tiny_model
from jaxablate.masks.draw import draw
from jaxablate.masks.recipes import RECIPES
from jaxablate.reports.published import Published
from jaxablate.training.config import FinetuneConfig
from jaxablate.training.pretrain import PretrainConfig
from tests.docs.pages import (
    PAGES,
    ROOT,
    Block,
    Command,
    blocks,
    commands,
    name_of,
    parse,
    run,
    statements,
    write_files,
)

# Rows of an instrument take seconds to make.
ROWS = functools.cache(synthetic.rows)
# Commands whose execution another test shows; here they are parsed, and planned where they can be.
_EXPORT = "tests/checkpoints/test_finetuned.py"
_PROBE, _TRAINING = "tests/cli/test_commands.py", "tests/training/test_finetune.py"
ELSEWHERE = {
    "finetune configs/finetune/tiny.yaml --mask full_bidirectional --allow-leaky": _TRAINING,
    "finetune configs/finetune/tiny.yaml --set lora.rank=8 --set lora.alpha=16": _TRAINING,
    "convert runs/lora": _EXPORT,
    "probe leakage ref-6m --mask causal,prefix_lm,full_bidirectional --prompt 6": _PROBE,
    "probe leakage converted": _PROBE,
    "pretrain configs/pretrain/own_text.yaml": "tests/cli/test_pretrain.py",
    "quickstart": "tests/cli/test_quickstart.py",
    "run configs/ablation/tiny.yaml": "tests/experiments/test_tiny.py",
}
# Settings that only an experiment has.
EXPERIMENT = {"stages", "seeds", "criteria", "evaluate", "finetune"}
EXPERIMENT_REST = """
name: mine
checkpoint: some/model
stages: {one: {kind: evaluate, tasks: [piqa], data: samples}}
"""
FINETUNED: dict[tuple[str, ...], Path] = {}
EXECUTED = [page for page in PAGES if blocks(page, "bash", "python")]
SHOWN = [
    (page, command)
    for page in PAGES
    for block in blocks(page, "console", "sh", "")
    for command in commands(block)
]


def settled_elsewhere(command: Command) -> str | None:
    """The test that executes a command; one that only prints a plan is executed here."""
    if {"--print-config", "--list"} & set(command.words):
        return None
    return next((test for start, test in ELSEWHERE.items() if str(command).startswith(start)), None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random model in place of ref-6m: the same commands, in seconds."""
    made = tmp_path_factory.mktemp("model") / "ref-6m"
    write_tiny_model(made, seed=0)
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch, model):
    """A working directory with nothing but the model; what a page registers is forgotten."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / model.name).symlink_to(model)
    # Pages compile the same programs, mostly small ones.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
    monkeypatch.setattr(compile_cache, "LEAST_SECONDS", 0.05)
    monkeypatch.setattr(synthetic, "rows", ROWS)
    task_names()  # (all of ours are there before a page adds its own)
    monkeypatch.setattr(TASKS, "_things", dict(TASKS._things))
    monkeypatch.setattr(RECIPES, "_things", dict(RECIPES._things))
    added = set(SOURCES)
    yield tmp_path
    for name in set(SOURCES) - added:
        del SOURCES[name]


def execute(block: Block):
    if block.language == "python":
        if not block.title:
            exec(compile(block.text, "page", "exec"), {"__name__": "__page__"})
        return
    for statement in statements(block.text):
        if isinstance(statement, Command) and settled_elsewhere(statement):
            plan(statement)
        elif isinstance(statement, str) and statement.lstrip().startswith("bash scripts/"):
            check_scripts(statement)
        elif isinstance(statement, str) and statement.startswith("python "):
            run_script(*shlex.split(statement)[1:])
        elif isinstance(statement, Command) and statement.words[0] == "finetune":
            finetune(statement)
        else:
            run(statement)


def run_script(*words: str):
    """Run a script of the page in this process; it ends as a program does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", list(words))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(words[0], run_name="__main__")
    assert not ended.value.code, words


def finetune(command: Command):
    """Run a finetuning; one that another page ran with the same words is copied from there."""
    *words, flag, out = command.words
    key = tuple(words)
    if command.code == 0 and flag == "--out" and key in FINETUNED and not Path(out).exists():
        shutil.copytree(FINETUNED[key], out)
    run(command)
    if command.code == 0 and flag == "--out":
        FINETUNED[key] = Path(out).absolute()


def plan(command: Command):
    """Parse a command; where it can print its settings, or what there is to do, let it.

    A file that the page does not show is one of the reader's.
    """
    parse(command)
    name, *rest = command.words
    planned = {"--print-config", "--list"}
    if any(word.endswith(".yaml") and not Path(word).exists() for word in rest):
        return
    if name in ("run", "sweep"):
        run(command if planned & set(rest) else command._replace(words=[name, *rest, "--list"]))
    elif name in ("eval", "finetune", "pretrain"):
        run(command._replace(words=[name, *rest, "--print-config"]))


def check_scripts(text: str):
    for line in text.splitlines():
        _, script, *_ = line.split()
        subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_what_the_page_shows_works(page, folder):
    write_files(page, folder)
    for block in blocks(page, "bash", "python"):
        execute(block)


@pytest.mark.parametrize(
    ("page", "command"), SHOWN, ids=[f"{name_of(page)}: {command}" for page, command in SHOWN]
)
def test_what_the_page_only_shows_is_understood(page, command, folder):
    write_files(page, folder)
    plan(command)


def as_settings(text: str) -> object:
    """YAML as the settings of the command that has such keys; a part of them is enough."""
    settings = parse_yaml(text, "page")
    values = settings.values
    if EXPERIMENT & values.keys():
        rest = EXPERIMENT_REST if "stages" not in values else ""
        return make_plan(parse_yaml(text + rest, "page"), "root")
    if "claims" in values:
        return build(Published, settings)
    if "sources" in values.get("data", {}):
        values |= {"name": "mine", "steps": 1, **values}
        return build(PretrainConfig, settings)
    values.setdefault("checkpoint", "named on the command line")
    if "tasks" in values:
        return build(EvalConfig, settings)
    values.setdefault("steps", 1)
    return build(FinetuneConfig, settings)


def all_blocks(*languages: str):
    return [
        pytest.param(block, id=f"{name_of(page)}-{index}")
        for page in PAGES
        for index, block in enumerate(blocks(page, *languages))
    ]


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_settings_are_settings(block):
    assert as_settings(block.text)


@pytest.mark.parametrize("block", all_blocks("json"))
def test_records_are_records(block):
    assert len(read_rows([json.loads(block.text)], "train", where="", origin="").rows) == 1


@pytest.mark.parametrize("block", all_blocks("py"))
def test_python_that_is_only_shown_is_python(block):
    compile(block.text, "page", "exec")


def test_what_mask_prints_is_what_the_page_says():
    printed = [b.text for page in PAGES for b in blocks(page, "") if "\n\n  P" in b.text]
    assert printed
    for text in printed:
        mask, _, row, *_ = text.splitlines()
        assert text == f"{mask}\n\n{draw(mask, row)}\n"


def test_every_block_is_of_a_language_that_is_tried():
    known = {"", "bash", "console", "json", "py", "python", "sh", "text", "yaml"}
    assert {block.language for page in PAGES for block in blocks(page)} <= known


def test_what_is_executed_elsewhere_is():
    for start, test in ELSEWHERE.items():
        assert (ROOT / test).is_file(), start
        used = [one for page in PAGES for block in blocks(page, "bash") for one in commands(block)]
        assert any(str(command).startswith(start) for command in used), start


def test_a_wrong_flag_is_noticed():
    with pytest.raises(Exception, match="--steps"):
        parse(Command(["finetune", "a.yaml", "--step", "3"]))


def test_commands_are_found_in_every_form():
    text = '$ A=1 B="x y" jaxablate env\njaxablate mask causal \\\n  --layer 2  # exit code 2\nls\n'
    first, second, rest = statements(text)
    assert (first, second.words, second.code, rest) == (
        Command(["env"]),
        ["mask", "causal", "--layer", "2"],
        2,
        "ls\n",
    )
