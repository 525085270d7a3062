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
# # Leakage: what a mask lets through, measured
#
# A score means nothing when the position that predicts a token can see that token. A mask says so
# before anything runs, and the model can be asked as well. Here is both, on the reference model
# that comes with the package.

# %%
import jaxablate
from jaxablate.probes import flow, leakage
from jaxablate.probes.picture import flow_picture, token_labels

MODEL = "ref-6m"
MASKS = ["causal", "prefix_lm", "full_bidirectional"]
lm = jaxablate.load(MODEL)

# %% [markdown]
# ## By the mask alone
#
# Layers follow one another, so what one position can depend on is what it reaches through all of
# them together. Take a prompt of 12 tokens: its last position, number 11, predicts the first
# token of the response, in slot 12. Can it see that slot?

# %%
for mask in (*MASKS, "causal | layers(2) & from(prompt) & to(response)"):
    reached = flow.reachable(lm.config, 20, mask, prompt_length=12)
    print(f"{'yes' if reached[11, 12] else 'no':<4}{mask}")

# %% [markdown]
# The last mask opens the response to the prompt in one layer of six. That is enough: the layers
# above read what this one has let in.
#
# Scoring under a leaky mask is refused before anything runs, with the way that a token takes to
# the position that predicts it:

# %%
try:
    pair = ("Pairs: lamp stone; river cloud. Ask: river", " cloud; lamp stone.")
    lm.score([pair], mask="full_bidirectional")
except jaxablate.UserError as error:
    print(error)

# %% [markdown]
# ## The probe: by changing tokens
#
# Replace a scored token and all that follow it, and look at the logits that predict it. Not one
# bit may move. The probe does this for every response position, with the compiled program that
# also scores; and it reads the response once in one pass and once token by token through the
# cache.

# %%
print(f"{'mask':<20}{'verdict':<8}future change  prompt change  one pass  decoded")
for mask in MASKS:
    found = leakage.measure(
        lm, jaxablate.masks.parse(mask), num_rows=2, prompt_length=6, response_length=4
    )
    print(
        f"{mask:<20}{'LEAKY' if found['leaks'] else 'clean':<8}"
        f"{found['future_change']:>13.3g}{found['prompt_change']:>15.3g}"
        f"{found['teacher_forced_loss']:>10.3f}{found['decode_loss']:>9.3f}"
    )

# %% [markdown]
# How to read it:
#
# - **future change** is the largest change of a scored logit. It is exactly 0 unless the mask
#   leaks.
# - **prompt change** is the same at the first prompt position when the last prompt token changes:
#   0 where the prompt is causal, above 0 where it is read both ways. That is the point of
#   `prefix_lm` and no leak, since nothing in the prompt is scored.
# - **one pass** and **decoded** are mean losses in nats a token. They agree unless the mask
#   leaks.
#
# ## The picture: gradients
#
# The gradient of the loss at one position with respect to each input embedding shows what that
# loss depends on. Above: |d loss / d embedding| as measured, each line one position, each column
# one input token. Grey is exactly zero; pale is small, as where the model is certain of the next
# token. Below: what the mask alone lets through in all layers together. A dot marks a position
# that sees the very token it predicts: hollow in the prompt, where nothing is scored, filled
# where it is a leak.

# %%
prompt, response = lm.tokenizer.encode_pair(*pair)
tokens = [*prompt, *response]
flows = [flow.measure(lm, tokens, mask, prompt_length=len(prompt)) for mask in MASKS]
flow_picture(flows, token_labels(lm, tokens), titles=MASKS)

# %% [markdown]
# Measured and allowed agree in every cell, and only `full_bidirectional` has filled dots:

# %%
for name, found in zip(MASKS, flows, strict=True):
    agree = bool(((found.gradient > 0) == found.reachable).all())
    print(f"{name:<20} cells agree: {agree}   leaking: {len(found.leaks)} of {found.num_scored}")

# %% [markdown]
# On a command line: `jaxablate probe leakage ref-6m --mask causal,prefix_lm` and `jaxablate probe
# flow ref-6m --mask causal,prefix_lm --out flow.png`.
