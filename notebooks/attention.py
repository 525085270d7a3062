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
# # Attention, before and after a mask is changed
#
# What does a head do when its mask opens or closes? Here the reference model answers a recall
# question: some pairs of words, then one of the keys again; the value that stood beside the key
# must follow. The weights are those of the reference kernel, [layer, head, query, key], float32.

# %%
import jaxablate
from jaxablate.probes.attention import attention_weights, share_ahead, strongest_heads
from jaxablate.probes.picture import attention_picture, head_picture, token_labels

MODEL = "ref-6m"
lm = jaxablate.load(MODEL)
prompt = "Pairs: lamp stone; river cloud; door apple; moon bread. Ask: river"
tokens = lm.tokenizer.encode(prompt)
labels = token_labels(lm, tokens)
print(len(tokens), "tokens:", " ".join(labels))

# %% [markdown]
# ## The answer
#
# The log-likelihood of each value in nats, under both masks. The weights of the model are the
# same; only who may see whom in the prompt differs.

# %%
values = [" stone", " cloud", " apple", " bread"]
for mask in ("causal", "prefix_lm"):
    scores = lm.score([(prompt, value) for value in values], mask=mask)
    found = {value: round(score.sum, 2) for value, score in zip(values, scores, strict=True)}
    print(f"{mask:<10}", found)

# %% [markdown]
# ## Which heads look the answer up?
#
# The last position must find the value, `cloud`. These two heads attend to it most under the
# causal mask that the model was trained with:

# %%
weights = {mask: attention_weights(lm, tokens, mask) for mask in ("causal", "prefix_lm")}
answer = len(lm.tokenizer.encode("Pairs: lamp stone; river cloud")) - 1
heads = strongest_heads(weights["causal"], query=-1, key=answer)
for layer, head in heads:
    before, after = (weights[mask][layer, head, -1, answer] for mask in weights)
    print(f"layer {layer}, head {head}: causal {before:.2f}, prefix_lm {after:.2f}")

# %% [markdown]
# Each line of a table is a query and sums to 1, each column is a key. Grey is exactly zero: the
# mask forbids it. Left the mask of training, right the ablation, in which every prompt token sees
# the whole prompt.

# %%
attention_picture(weights, labels, heads=heads)

# %% [markdown]
# ## How much attention goes to later tokens?
#
# Under `causal` none can. Under `prefix_lm` nothing forbids the future, and a model that never
# saw one spends a good part of its attention there all the same. The numbers are means over the
# queries; attention spread evenly over a prompt of T tokens would give (T - 1) / 2T, a little
# under one half.

# %%
print("most under causal:", share_ahead(weights["causal"]).max())
head_picture({"prefix_lm": share_ahead(weights["prefix_lm"])}, label="share to later tokens")
