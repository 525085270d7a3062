"""`recall_mcq`: which of four values of two words did this key have?

An honest score and a leaky one differ here, since the second word of a value can be read off its
first one, or off itself where a mask lets an answer see itself.
"""

from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import INSTRUMENTS, Instrument, Made
from jaxablate.data.synthetic.recall import ask, draw_pairs

NUM_PAIRS, NUM_CHOICES = 5, 4


@INSTRUMENTS.register("recall_mcq")
@Instrument
def recall_mcq(draw: Draw) -> Made:
    """Five pairs, one key; the choices are its value and three others of the row (chance 1/4)."""
    pairs = draw_pairs(draw, NUM_PAIRS, words=2)
    asked, *others = draw.some(pairs, NUM_CHOICES)
    choices = draw.shuffled([value for _, value in (asked, *others)])
    content = tuple(sorted(pairs))
    return Made((ask(pairs, asked[0]),), tuple(choices), choices.index(asked[1]), content)
