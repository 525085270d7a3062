"""What the README shows works, line by line, and its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxablate.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def blocks(text, language):
    """Contents of the fenced blocks of one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for name, content in fenced if name == language]


def commands():
    lines = [
        line.partition("  #")[0].strip()
        for block in blocks(README, "bash")
        for line in block.splitlines()
    ]
    return [shlex.split(line)[1:] for line in lines if line.startswith("jaxablate ")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which the README's commands have run, in order."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "configs").symlink_to(ROOT / "configs")
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.chdir(folder)
        codes = [main(words) for words in commands()]
    assert codes == [0] * len(codes)
    return folder


def test_the_first_command_is_what_ci_begins_with():
    first = next(line for line in blocks(README, "bash")[0].splitlines() if line.strip())
    command = first.partition("#")[0].strip()
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    runs = [line for line in lines if line.startswith(("bash", "time bash"))]
    assert command in runs[0]


def test_there_are_commands_to_try():
    assert {words[0] for words in commands()} == {
        "mask", "convert", "eval", "report", "probe", "finetune", "env",
    }  # fmt: skip


def test_every_command_of_the_readme_works(workplace):
    assert (workplace / "runs" / "first-report.html").is_file()


def test_the_python_of_the_readme_works(workplace):
    (code,) = blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:jaxablate", "-c", code],
        cwd=workplace,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (workplace / "runs" / "exported" / "model.safetensors").is_file()


def test_the_drawings_are_what_the_masks_are():
    from jaxablate.masks.draw import draw

    names = ("causal", "prefix_lm", "full_bidirectional")
    drawn = [draw(name, "P3 R2").splitlines() for name in names]
    for page in (README, (ROOT / "docs" / "explanation" / "masks.md").read_text()):
        (block,) = [b for b in blocks(page, "") if "PPPRR" in b]
        shown = block.splitlines()[1:]
        for row, parts in enumerate(zip(*drawn, strict=True)):
            wanted = "".join(part.ljust(20) for part in parts).rstrip()
            assert shown[row].startswith(wanted), (row, shown[row])


def test_the_scripts_of_the_readme_exist_and_are_valid_shell():
    for name in re.findall(r"bash (scripts/\w+\.sh)", README):
        assert subprocess.run(["bash", "-n", ROOT / name], check=False).returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_feature_that_is_there_names_its_place_and_its_test():
    row = re.compile(r"^\| (\d+) \| .+? \| (done|part|planned) \| (.*?) \| (.*?) \|$", re.MULTILINE)
    rows = row.findall((ROOT / "FEATURES.md").read_text())
    assert [int(number) for number, *_ in rows] == list(range(1, 197))
    for number, state, place, test in rows:
        if state == "planned":
            assert (place, test) == ("", ""), number
            continue
        file, name = re.fullmatch(r"`(tests/[^`]+)`: (test_\w+)", test).groups()
        assert (ROOT / place.strip("`")).is_file(), number
        assert f"def {name}(" in (ROOT / file).read_text(), number
