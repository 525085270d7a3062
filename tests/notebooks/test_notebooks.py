"""The notebooks run, say what is true, hold no logic of their own, and equal their paired files."""

import ast
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = ("masks", "leakage", "attention", "conversion", "report")


def cells(name):
    """(kind, source) of each cell of the percent script."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    parts = re.split(r"^# %%(?: \[(\w+)\])?\n", text, flags=re.MULTILINE)[1:]
    found = []
    for kind, source in zip(parts[::2], parts[1::2], strict=True):
        if kind == "markdown":
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        found.append((kind or "code", source.strip("\n")))
    return found


def run(name, *, show):
    """The names that all code cells leave behind; `show` is given the last value of each."""
    namespace = {"__name__": name}
    for kind, source in cells(name):
        if kind != "code":
            continue
        tree, last = ast.parse(source), None
        if isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        exec(compile(tree, f"{name}.py", "exec"), namespace)
        if last is not None:
            show(eval(compile(last, f"{name}.py", "eval"), namespace))  # noqa: S307 (our own)
    return namespace


@pytest.fixture
def ran(tmp_path, monkeypatch, capsys):
    """Runs a notebook in an empty folder: its names, what it printed, what it showed."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def start(name):
        shown = []
        namespace = run(name, show=lambda value: value is None or shown.append(value))
        assert not list(here.iterdir())
        return namespace, capsys.readouterr().out, shown

    return start


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_equals_its_paired_file_which_has_no_outputs(name):
    paired = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in paired["cells"]] == cells(name)
    code = [cell for cell in paired["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_thin_and_runs_the_reference_model(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    logic = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While)
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, logic)]
    assert max(map(len, text.splitlines())) <= 100
    assert name == "masks" or text.count('MODEL = "ref-6m"') == 1


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.iterdir() if path.suffix == ".py"} == set(NAMES)
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


def test_masks(ran):
    names, printed, shown = ran("masks")
    assert "causal | within(prompt)\nTrue\n" in printed
    assert printed.endswith("dense\n")
    assert len(shown) == 6
    assert shown[0]._repr_png_().startswith(b"\x89PNG")
    assert names["mixed"].at(2, 0) != names["mixed"].at(3, 0)


def test_leakage(ran):
    names, printed, (picture,) = ran("leakage")
    assert [bool(found.leaks) for found in names["flows"]] == [False, False, True]
    assert [line[:3].strip() for line in printed.splitlines()[:4]] == ["no", "no", "yes", "yes"]
    assert "can see its own target" in printed
    assert printed.count("LEAKY") == 1
    assert printed.count("cells agree: True") == 3
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_attention(ran):
    names, printed, shown = ran("attention")
    assert names["labels"][names["answer"]] == "cloud"
    layer, head = names["heads"][0]
    causal, prefix = (table[layer, head] for table in names["weights"].values())
    assert causal[-1].argmax() == names["answer"]
    assert causal[-1, names["answer"]] > 0.5
    assert np.triu(causal, 1).max() == 0 < np.triu(prefix, 1).max()
    assert "most under causal: 0.0" in printed
    assert [picture._repr_png_()[:4] for picture in shown] == [b"\x89PNG"] * 2


def test_conversion(ran):
    names, printed, _ = ran("conversion")
    equal = re.findall(r"(\d+) of (\d+) weights equal", printed)
    assert len(equal) == 3
    assert all(same == every for same, every in equal)
    wanted = names["wanted"]
    far = {name: abs(np.asarray(x) - wanted).max() for name, x in names["logits"].items()}
    assert far["float32, loop, converted and back"] == 0
    assert far["float32, scan"] < 1e-3 < far["bfloat16, loop"] < 1
    assert "not installed" in printed or abs(names["found"] - wanted).max() < 1e-3


def test_report(ran):
    names, printed, (picture, page) = ran("report")
    assert [c.leaky for c in names["view"].conditions] == [False, False, True]
    recall = next(r for r in names["view"].results if r.task == "recall")
    assert recall.accuracy.value > 0.9
    assert printed.count("LEAKY") == 2
    assert "prefix_lm - causal" in printed
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert "<iframe" in page._repr_html_()
