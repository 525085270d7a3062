"""The README is what it says: drawings, scripts, links, features. (Commands: tests/docs.)"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def blocks(text, language):
    """Contents of the fenced blocks of one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for name, content in fenced if name == language]


def test_the_first_command_is_what_ci_begins_with():
    first = next(line for line in blocks(README, "bash")[0].splitlines() if line.strip())
    command = first.partition("#")[0].strip()
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    runs = [line for line in lines if line.startswith(("bash", "time bash"))]
    assert command in runs[0]


def test_the_drawings_are_what_the_masks_are():
    from jaxablate.masks.draw import draw

    names = ("causal", "prefix_lm", "full_bidirectional")
    drawn = [draw(name, "P3 R2").splitlines() for name in names]
    drawing = [b for page in PAGES for b in blocks(page.read_text(), "") if "PPPRR  " in b]
    assert len(drawing) > 3
    for block in drawing:
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
