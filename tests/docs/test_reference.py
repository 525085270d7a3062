"""Reference pages hold everything that the code has, and the pages hold together."""

import dataclasses
import importlib
import pkgutil
import re
import sys

import pytest

import jaxablate
from jaxablate.cli import exit_codes
from jaxablate.cli.entry import COMMANDS
from jaxablate.core.config import build
from jaxablate.core.settings import parse_yaml, read_settings
from jaxablate.data.sft_config import check_data
from jaxablate.evaluation.task import task_names
from jaxablate.experiments import stages as _kinds  # noqa: F401 (each registers itself)
from jaxablate.experiments.plan import make_plan
from jaxablate.experiments.stage import KINDS
from jaxablate.kernels.attention import KERNELS
from jaxablate.masks.atoms import ATOMS
from jaxablate.masks.draw import draw
from jaxablate.masks.recipes import RECIPES
from jaxablate.models.families import FAMILIES
from jaxablate.runs.stop_rules import REASONS
from jaxablate.training.config import FinetuneConfig
from tests.docs.pages import ROOT, blocks

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import generated  # noqa: E402
from reference import configs  # noqa: E402

# Dataclasses of that name that no setting builds.
NOT_SETTINGS = {"CardConfig", "DecoderConfig", "RopeConfig"}


def test_every_mask_is_there_and_drawn():
    text = generated.expand((DOCS / "reference" / "masks.md").read_text())
    for name in (*ATOMS.names(), *RECIPES.names()):
        assert re.search(rf"^### `{name}(\(.*\))?`$", text, re.MULTILINE), name
    assert draw("prefix_lm", "P3 {R2|R1}") in text


def test_every_task_is_there_with_its_licence_and_chance():
    text = generated.expand((DOCS / "reference" / "tasks.md").read_text())
    for name in task_names():
        assert f"### {name}\n" in text
    assert re.search(r"^\| \[piqa\].* AFL-3.0 .* 1/2 \|$", text, re.MULTILINE)


def test_every_command_kernel_family_and_exit_code_is_there():
    cli, kernels, models = (
        generated.expand((DOCS / page).read_text())
        for page in ("reference/cli.md", "reference/kernels.md", "how-to/own-model.md")
    )
    for name in COMMANDS:
        assert f"usage: jaxablate {name} " in cli
    for code, meaning in exit_codes.MEANINGS.items():
        assert f"| `{code}` | {meaning} |" in cli
    assert all(f"| `{name}` |" in kernels for name in KERNELS)
    assert all(f"| `{name}` |" in models for name in FAMILIES)


def test_every_setting_is_there_with_type_and_default():
    text = generated.expand((DOCS / "reference" / "configs.md").read_text())
    assert "| `peak` | number | `2e-05` | the highest rate. |" in text
    assert "| `lora` | [LoRAConfig](#config-loraconfig) or `null` | `null` |" in text
    assert '| `mesh` | text | `""` |' in text
    for cls in setting_classes():
        assert f"### {cls.__name__}\n" in text


def setting_classes():
    found = set()
    for module in pkgutil.walk_packages(jaxablate.__path__, "jaxablate."):
        if module.name.endswith("__main__") or ".integrations" in module.name:
            continue  # (a program; what others have installed)
        for thing in vars(importlib.import_module(module.name)).values():
            is_config = isinstance(thing, type) and thing.__name__.endswith("Config")
            if is_config and dataclasses.is_dataclass(thing):
                found.add(thing)
    return [cls for cls in found if cls.__name__ not in NOT_SETTINGS]


def test_a_setting_without_a_text_is_an_error():
    @dataclasses.dataclass
    class Bare:
        """No attributes.

        Attributes:
            one: is described.
        """

        one: int = 1
        two: int = 2

    with pytest.raises(KeyError, match="two"):
        configs.keys(Bare)


def test_an_unknown_marker_is_an_error():
    with pytest.raises(KeyError, match="nothing of the kind"):
        generated.expand("<!-- generated: nothing of the kind -->")


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text()
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")}
    listed = set(re.findall(r"^([\w-]+/[\w-]+)$", index, re.MULTILINE))
    assert pages - {"index"} <= listed


def test_the_study_page_shows_a_file_with_kinds_that_there_are():
    page = DOCS / "how-to" / "study.md"
    shown = blocks(page, "yaml")[0].text
    jobs = {job.name: job for job in make_plan(parse_yaml(shown, "docs"), "root").jobs()}
    assert jobs["scored"].model == "after"
    assert {"layers", "rates-1e-05", "rates-5e-05"} <= set(jobs)
    assert set(re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE)) == set(KINDS.names())


def test_the_table_of_stop_reasons_is_complete():
    text = (DOCS / "how-to" / "resume.md").read_text()
    assert set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)) == set(REASONS)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "finetune").glob("*.yaml")))
def test_configs_of_finetuning_name_data_that_is_there(path):
    check_data(build(FinetuneConfig, read_settings([path])).data)
