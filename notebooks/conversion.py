# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Conversion: the same numbers everywhere
#
# A checkpoint goes from the Hugging Face layout into jaxablate's own and back without losing a
# bit, and the logits do not depend on how the weights lie. Everything below is checked on the
# reference model that comes with the package.

# %%
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

import jaxablate
from jaxablate.checkpoints.convert import convert
from jaxablate.checkpoints.hub import resolve
from jaxablate.checkpoints.manifest import describe_array
from jaxablate.models.layout import by_path

MODEL = "ref-6m"
folder = resolve(MODEL)
work = Path(tempfile.mkdtemp())
print(*sorted(path.name for path in folder.iterdir()), sep="\n")

# %% [markdown]
# ## There and back
#
# `convert` writes jaxablate's own format (Orbax, with a manifest of digests), and from it the
# Hugging Face layout again. On a command line: `jaxablate convert ref-6m ours` and `jaxablate
# convert ours theirs --to hf`.

# %%
convert(folder, work / "ours", to="jaxablate", dtype=None)
convert(work / "ours", work / "theirs", to="hf", dtype=None)
print(*sorted(path.name for path in (work / "theirs").iterdir()), sep="\n")

# %% [markdown]
# Every weight has a SHA-256 of its bytes. All three folders hold the same:

# %%
places = {"Hugging Face": folder, "jaxablate": work / "ours", "and back": work / "theirs"}
models = {name: jaxablate.load(place, dtype="bfloat16") for name, place in places.items()}
digests = {
    name: {path: describe_array(array)["sha256"] for path, array in by_path(lm.params).items()}
    for name, lm in models.items()
}
for name, found in digests.items():
    same = sum(found[path] == digest for path, digest in digests["Hugging Face"].items())
    print(f"{name:<14}{same} of {len(found)} weights equal, bit for bit")

# %% [markdown]
# One digest names a checkpoint; every run folder records it, so that a result says which weights
# it belongs to:

# %%
print(models["Hugging Face"].source["weights"])

# %% [markdown]
# ## Logits
#
# Equal weights in equal programs give equal logits, bit for bit. The two layouts of the weights,
# `loop` (each layer apart) and `scan` (one array for all layers), are different programs of the
# same numbers: in float32 they agree to rounding. bfloat16 rounds every step to 8 bits, so it
# agrees to about two digits.

# %%
tokens = [models["Hugging Face"].tokenizer.encode("The old man walked down to the river and sat.")]
base = jaxablate.load(folder)
logits = {
    "float32, loop": base.logits(tokens),
    "float32, loop, converted and back": jaxablate.load(work / "theirs").logits(tokens),
    "float32, scan": jaxablate.load(folder, layout="scan").logits(tokens),
    "bfloat16, loop": models["Hugging Face"].logits(tokens),
}
wanted = np.asarray(logits["float32, loop"])
print(f"largest logit: {abs(wanted).max():.2f}")
for name, found in logits.items():
    print(f"{name:<36}largest difference {abs(np.asarray(found) - wanted).max():.1e}")

# %% [markdown]
# ## Against transformers
#
# transformers is no dependency of jaxablate. Where it is installed, with torch, the same folder
# gives the same logits there, read by its own code:

# %%
if importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"):
    import torch
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(work / "theirs", dtype=torch.float32)
    with torch.no_grad():
        found = theirs(torch.tensor(tokens)).logits.numpy()
    print(f"largest difference to transformers: {abs(found - wanted).max():.1e}")
else:
    print("transformers or torch is not installed here, so nothing is compared")
