"""`null_mcq`: questions with nothing to know, the canary of every mask and scorer.

The layout is that of `recall_mcq`, but the key that is asked for has no value in the prompt, and
the right answer is drawn at random, independent of every word of the row. So:

* accuracy must be chance (1/4, within its interval) for every model under every mask. More means
  that the label itself leaks: through the order of the choices, through what is scored together,
  or through rows that a model has been trained on (there is no training side here).
* the mean log-likelihood of the right answer can at best be that of a draw among the five values
  that stand in the prompt, -log 5 = -1.61. A higher one means that answers see themselves: then
  all four choices are likely at once, and accuracy stays at chance nevertheless.
"""

from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import INSTRUMENTS, Instrument, Made
from jaxablate.data.synthetic.recall import ask, draw_pairs
from jaxablate.data.synthetic.recall_mcq import NUM_CHOICES, NUM_PAIRS


def null_mcq(draw: Draw) -> Made:
    """Five pairs, a key that is in none of them, four of their values, any of them right."""
    *pairs, (key, _) = draw_pairs(draw, NUM_PAIRS + 1, words=2)
    choices = [value for _, value in draw.some(pairs, NUM_CHOICES)]
    content = (*sorted(pairs), key)
    return Made((ask(pairs, key),), tuple(choices), draw.below(NUM_CHOICES), content)


INSTRUMENTS.register("null_mcq")(Instrument(null_mcq, trained=False))
