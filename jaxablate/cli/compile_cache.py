"""The compilation cache on disk: a program compiled once is not compiled by the next command.

`JAX_COMPILATION_CACHE_DIR` says where; by default under the user's cache folder. What compiles in
less than `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` is not kept, by default half a second. An
entry that is damaged only costs a new compilation, so a cache is never verified and can be deleted
at any time.
"""

import os
from pathlib import Path

# Shorter compilations are not worth a file.
LEAST_SECONDS = 0.5


def use_compile_cache() -> Path | None:
    """Point jax at the cache; None where the folder cannot be made, which costs time only."""
    import jax

    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(named) if named else Path(home) / "jaxablate" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return folder
