"""Checkpoints: Hugging Face folders in and out, and converted weights that are verified.

`open_checkpoint` reads either kind; `hub.resolve` turns a name into a folder first.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxablate.checkpoints.hf import load_hf, save_hf
    from jaxablate.checkpoints.open import open_checkpoint

__all__ = ["load_hf", "open_checkpoint", "save_hf"]


def __getattr__(name: str) -> Any:
    """Imports JAX only when a checkpoint is really read or written."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "open" if name == "open_checkpoint" else "hf"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
