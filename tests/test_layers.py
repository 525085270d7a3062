"""The layer diagram is true, and light parts stay light."""

import logging.config
import subprocess
import sys

import pytest


def test_imports_go_down_only(monkeypatch):
    pytest.importorskip("importlinter")
    from importlinter.cli import lint_imports

    # It would switch off every logger that there is, for the tests that follow.
    monkeypatch.setattr(logging.config, "dictConfig", lambda config: None)
    assert lint_imports(cache_dir=None) == 0


LIGHT = [
    "jaxablate",
    "jaxablate.masks",
    "jaxablate.masks.draw",
    "jaxablate.data.sources",
    "jaxablate.data.tokenizer",
    "jaxablate.runs",
    "jaxablate.reports.render",
    "jaxablate.cli",
]


def test_light_parts_import_no_jax():
    imports = "".join(f"import {name}\n" for name in LIGHT)
    code = f"import sys\n{imports}print(sorted({{'jax', 'flax', 'torch'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
