"""The kinds of stages, one file each; importing this package enters them in `KINDS`."""

from jaxablate.experiments.stages import convert, evaluate, finetune, model, pretrain, probe, sweep

__all__ = ["convert", "evaluate", "finetune", "model", "pretrain", "probe", "sweep"]
