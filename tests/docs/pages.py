"""Fenced blocks of Markdown pages, and what can be done with them."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from jaxablate.cli import main
from jaxablate.cli.entry import load_command

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A block that begins with "# name.yaml" is the content of that file.
_TITLE = re.compile(r"\A# ([\w./-]+\.(?:yaml|py|jsonl|txt))\n")
FEW = "2"
_CODE = re.compile(r"#.*exit code (\d+)")
_COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=(?:\"[^\"]*\"|\S*) )*jaxablate (?=[a-z])")


class Block(NamedTuple):
    """A fenced block: its language ("" where none is given) and content."""

    language: str
    text: str

    @property
    def title(self) -> str:
        """The file that the block is; "" if it is none."""
        found = _TITLE.match(self.text)
        return found[1] if found else ""


class Command(NamedTuple):
    """A `jaxablate` line: the words after the program's name, and the exit code it should have."""

    words: list[str]
    code: int = 0
    into: str = ""  # file that takes what is printed

    def __str__(self) -> str:
        return shlex.join(self.words)


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of some languages or of all."""
    found = [Block(*pair) for pair in _FENCE.findall(page.read_text())]
    return [block for block in found if not languages or block.language in languages]


def statements(text: str) -> list[Command | str]:
    """Commands of ours, and what stands between them as shell text."""
    found: list[Command | str] = []
    for line in text.replace("\\\n", " ").splitlines(keepends=True):
        if _COMMAND.match(line):
            found.append(_command(line))
        elif found and isinstance(found[-1], str):
            found[-1] += line
        else:
            found.append(line)
    return found


def commands(block: Block) -> list[Command]:
    """The commands of ours in a block."""
    return [one for one in statements(block.text) if isinstance(one, Command)]


def _command(line: str) -> Command:
    words = shlex.split(line[_COMMAND.match(line).end() :], comments=True)
    into = words[words.index(">") + 1] if ">" in words else ""
    words = words[: words.index(">")] if into else words
    if "--limit" in words:
        words[words.index("--limit") + 1] = FEW  # fewer rows of the same kind
    assert not {"|", "&&", ";"} & set(words), f"only a plain command can be tried: {line}"
    said = _CODE.search(line)
    return Command(words, int(said[1]) if said else 0, into)


def parse(command: Command) -> None:
    """Raises `UserError` for a command, an option or a value that there is not."""
    name, *rest = command.words
    if rest and set(rest) <= {"-h", "--help"}:
        load_command(name)
    else:
        load_command(name)[1].parse_args(rest)


def write_files(page: Path, folder: Path) -> None:
    """Write the blocks that are files, and copy the repository's configs.

    Reading answers token by token costs most of a short finetuning, and is tried elsewhere
    (tests/training/test_finetune.py): here no config asks for it.
    """
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in (folder / "configs").rglob("*.yaml"):
        path.write_text(re.sub(r"^( *decode_rows:) \d+", r"\1 0", path.read_text(), flags=re.M))
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.text)


def run(statement: Command | str) -> None:
    """Run one statement in the working directory."""
    if isinstance(statement, Command):
        with open(statement.into or os.devnull, "w") as file:
            into = contextlib.redirect_stdout(file) if statement.into else contextlib.nullcontext()
            with into:
                assert main(statement.words) == statement.code, statement
    elif statement.strip():
        subprocess.run(["bash", "-euo", "pipefail", "-c", statement], check=True)
