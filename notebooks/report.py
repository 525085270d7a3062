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
# # Reading a report
#
# An evaluation leaves a run folder; a report is made of that folder alone. Here the reference
# model answers two tasks under three masks: `recall`, which it was trained for (eight pairs of
# words, then one key again, eight choices), and a few bundled questions in the manner of
# `arc_easy`.

# %%
import tempfile
from pathlib import Path

import jaxablate
from jaxablate.evaluation.config import EvalConfig
from jaxablate.evaluation.runner import evaluate
from jaxablate.reports.build import build_view
from jaxablate.reports.load import load_run
from jaxablate.reports.picture import Page, accuracy_picture

MODEL = "ref-6m"
config = EvalConfig(
    checkpoint=MODEL,
    tasks=("recall", "arc_easy"),
    masks=("causal", "prefix_lm", "full_bidirectional"),
    data="samples",
    limit=24,
    row_length=256,
    allow_leaky=True,
    bootstrap_samples=2000,
    out=str(Path(tempfile.mkdtemp()) / "run"),
)
outcome = evaluate(jaxablate.load(MODEL), config)
print(*sorted(path.name for path in outcome.path.iterdir()))

# %% [markdown]
# The command for the same: `jaxablate eval ref-6m --tasks recall,arc_easy --masks
# causal,prefix_lm,full_bidirectional --data samples --limit 24 --allow-leaky --out run`, then
# `jaxablate report run`.
#
# ## Accuracies

# %%
view = build_view([load_run(outcome.path)], title="The reference model under three masks")
accuracy_picture(view)

# %% [markdown]
# - The **mark** is the share of right answers, the **bar** its 95 % interval: questions are drawn
#   again, with replacement, two thousand times. With so few questions it is wide; that is what
#   the evaluation can say and no more.
# - **Chance** is the mean over questions of one over the number of choices. An interval that
#   holds it says that nothing was shown. The verdict in the report is an exact test against
#   guessing.
# - **LEAKY**: under this mask an answer is visible to the position that predicts it, so its
#   number is no accuracy. It was computed because `allow_leaky` was set, has a hollow mark, and
#   takes no part in any comparison.

# %%
for result in view.results:
    stamp = "LEAKY" if result.condition.leaky else ""
    low, high = result.accuracy.low, result.accuracy.high
    print(
        f"{result.task:<10}{result.condition.label:<20}{result.accuracy.value:.2f} "
        f"[{low:.2f}, {high:.2f}]  chance {result.chance:.2f}  {result.verdict} {stamp}"
    )

# %% [markdown]
# ## Differences
#
# Masks are compared on the same questions, so what counts is the difference question by question.
# Its interval is narrower than two separate intervals suggest: look at this line, not at whether
# the bars above overlap. `p` is McNemar's exact test, corrected for all comparisons of the report
# (Holm).

# %%
for difference in [one for one in view.differences if not one.condition.leaky]:
    found = difference.value
    print(
        f"{difference.task:<10}{difference.condition.label} - causal: "
        f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]  "
        f"p = {difference.adjusted:.2g}  {difference.verdict}"
    )

# %% [markdown]
# "Not distinguishable from zero" is not "equal": the interval says how large a difference could
# still be. Where the baseline stands above chance, the report also gives what is kept of it: the
# ratio of the accuracies, and the share of what lies above chance.
#
# ## The page
#
# The same numbers and the full appendix (settings, digests, kernels, software) as one HTML file
# that loads nothing from elsewhere:

# %%
Page(view)
