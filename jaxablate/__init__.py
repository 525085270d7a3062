"""jaxablate: what happens to a language model when you change who may attend to whom.

    import jaxablate
    lm = jaxablate.load("folder-or-hub-id", dtype="float32")
    lm.score([("The sky is", " blue")], mask="prefix_lm")
    jaxablate.masks.parse("same_segment & (causal | within(prompt))")

How the parts follow from each other, lower ones first; imports go down only:

    core          slots, errors, files, config, mesh, processes
    masks         a rule over pairs of slots: algebra, recipes, parser, lowering, leak guard
    losses        of tokens, without an array of all logits
    data          tokenizers, benchmark rows, instructions, packing, the order of batches
    runs          what a run leaves behind: folder, lock, journal, metrics, stop rules, statistics
    kernels       attention under a lowered mask; each serves it or declines with a reason
    models        one generic decoder, a family file for what differs
    checkpoints   Hugging Face <-> jaxablate, the verified store, saved steps of a training
    latent        LoRA
    engine        forward, score, generate: the compiled ways to run a decoder
    language_model  this Python surface
    training      one step under a mask, and the run around it that can be killed and goes on
    evaluation    multiple-choice tasks, scored into a run folder
    probes        what a mask lets through, measured
    reports       pages made of run folders alone
    experiments   stages of evaluations and finetunings that belong together
    integrations  lm-evaluation-harness, TensorBoard, Weights & Biases
    cli           one file a command
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["LanguageModel", "UserError", "load", "masks"]

if TYPE_CHECKING:
    from jaxablate import masks
    from jaxablate.core.errors import UserError
    from jaxablate.language_model import LanguageModel, load


def __getattr__(name: str) -> Any:
    """Heavy names are imported when asked for, so that `import jaxablate` stays light."""
    import importlib

    if name == "masks":
        return importlib.import_module("jaxablate.masks")
    if name == "UserError":
        return importlib.import_module("jaxablate.core.errors").UserError
    if name in ("LanguageModel", "load"):
        return getattr(importlib.import_module("jaxablate.language_model"), name)
    raise AttributeError(f"module 'jaxablate' has no attribute {name!r}")
