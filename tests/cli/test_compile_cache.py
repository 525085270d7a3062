"""The compilation cache: programs survive the process, and a missing folder costs time only."""

import os
import subprocess
import sys

PROGRAM = """
import jax
from jaxablate.cli import compile_cache
compile_cache.LEAST_SECONDS = 0.0
print(compile_cache.use_compile_cache())
jax.jit(lambda x: x * 2 + 1)(jax.numpy.ones(7)).block_until_ready()
"""


def run(**environment):
    others = {name: value for name, value in os.environ.items() if not name.startswith("JAX_C")}
    others.pop("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", None)
    settings = {**others, **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_programs_are_kept_under_the_users_cache_or_where_jax_is_told(tmp_path):
    assert run(XDG_CACHE_HOME=str(tmp_path)) == str(tmp_path / "jaxablate" / "xla")
    assert list((tmp_path / "jaxablate" / "xla").iterdir())
    named = tmp_path / "named"
    assert run(JAX_COMPILATION_CACHE_DIR=str(named)) == str(named)
    assert list(named.iterdir())


def test_what_compiles_quickly_is_not_kept_where_jax_is_told_so(tmp_path):
    run(JAX_COMPILATION_CACHE_DIR=str(tmp_path), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="60")
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(XDG_CACHE_HOME=str(tmp_path / "file")) == "None"
