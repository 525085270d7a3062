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
# # Masks: drawn, composed, lowered
#
# A mask is a rule over two slots, the query's and the key's: may this token attend to that one? A
# slot knows its position, its example, its role (prompt, response, gist, ...) and its part of the
# prompt. It never sees token values or array sizes, so one rule serves training, prefill,
# decoding and scoring alike.
#
# In every picture a line is a query and a column is a key; a coloured cell is open. The colour is
# that of the query's role: P prompt, R response, G gist.

# %%
import jaxablate
from jaxablate.core.slots import rows
from jaxablate.masks.draw import draw
from jaxablate.masks.lower import lower
from jaxablate.masks.picture import mask_picture

# %% [markdown]
# ## Three masks that everything else is compared with
#
# Under `causal` each token sees itself and what came before. `prefix_lm` lets the prompt see
# itself both ways; responses stay causal. `full_bidirectional` opens everything, so a response
# token is visible to the position that must predict it: it **leaks**, and scoring under it is
# refused.

# %%
mask_picture(["causal", "prefix_lm", "full_bidirectional"], "P5 R4")

# %% [markdown]
# The same as text, for a terminal or an issue:

# %%
print(draw("prefix_lm", "P5 R4"))

# %% [markdown]
# ## The algebra
#
# Masks are joined by `&`, `|` and `~`, in text or in Python. `prefix_lm` is only a name for
# `causal | within(prompt)`.

# %%
causal, within_prompt = jaxablate.masks.parse("causal"), jaxablate.masks.parse("within(prompt)")
print(causal | within_prompt)
print((causal | within_prompt) == jaxablate.masks.parse("prefix_lm"))

# %%
mask_picture(
    [
        "causal",
        "within(prompt)",
        "causal | within(prompt)",
        "causal & window(3)",
        "causal & ~(from(response) & to(prompt))",
        "causal | window(2,1)",
    ],
    "P5 R4",
)

# %% [markdown]
# The last one looks one token ahead everywhere, so it leaks too.
#
# ## Named masks
#
# Every recipe is one line of algebra:

# %%
for name, mask in jaxablate.masks.named().items():
    print(f"{name:<22} {mask}")

# %% [markdown]
# Some need more than a prompt and a response. Below, the prompt has two parts (think of two
# documents, or of two turns), then comes one gist token. `segment_bidirectional` opens each part
# in itself; under `gist` the response knows the prompt only through the gist token.

# %%
mask_picture(["prefix_lm", "segment_bidirectional", "gist"], "P3/1 P3/2 G1 R3")

# %% [markdown]
# Rows may hold several examples (packing). No mask can open a cell between two of them:

# %%
mask_picture(["causal", "prefix_lm", "full_bidirectional"], "P3 R2; P2 R2")

# %% [markdown]
# Several responses may share one prompt, as the choices of a question do. They are branches, and
# no mask can open a cell between two branches either:

# %%
mask_picture(["causal", "prefix_lm", "gist"], "P3 G1 {R2|R3}")

# %% [markdown]
# ## Layers and heads
#
# `layers(...)` and `heads(...)` say where in the network a rule holds. This mask is prefix-LM in
# the first three layers and causal above:

# %%
mixed = jaxablate.masks.parse("layers(0-2) & prefix_lm | causal")
mask_picture(
    [mixed.at(layer, 0) for layer in (0, 2, 3)],
    "P5 R4",
    titles=[f"layer {layer}: {mixed.at(layer, 0)}" for layer in (0, 2, 3)],
)

# %% [markdown]
# ## What a kernel gets
#
# Before anything runs, a mask is *lowered* on the slots of the batch: to one interval of keys a
# query where that is exact, else to a dense table. The kind is read off the batch, never guessed
# from the name, and decides which kernels can serve it. Lowering that is not exact does not
# exist.

# %%
slots = rows(lengths=[9, 6], width=9, prompt_lengths=[5, 4])
for text in ("causal", "prefix_lm", "full_bidirectional", "causal & window(3)", "gist"):
    lowered = lower(jaxablate.masks.parse(text), slots, slots)
    print(f"{text:<20} {lowered.kind:<8} keys of row 0: {lowered.k_start[0]} to {lowered.k_end[0]}")

# %% [markdown]
# A mask with holes has more than one interval for a query and stays dense:

# %%
holes = jaxablate.masks.parse("causal & (~window(2) | window(1))")
print(draw(holes, "P5 R4"))
print(lower(holes, slots, slots).kind)

# %% [markdown]
# `jaxablate mask "causal & window(3)" --kernels 1024` says on a command line which kernel serves
# a mask on a GPU and on the CPU, and why the others decline.
