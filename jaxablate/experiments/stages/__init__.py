"""The kinds of stages, one file each; importing this package enters them in `KINDS`."""

from jaxablate.experiments.stages import evaluate, finetune, model, sweep

__all__ = ["evaluate", "finetune", "model", "sweep"]
