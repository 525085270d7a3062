"""`compress`: four pairs, then P placeholder words, then a key: what do P slots carry?

The pairs are part 1 of the prompt, the placeholders part 2 and the question part 3. Under a mask
that hides part 1 from all but parts 1 and 2 the answer can know the pairs only through the slots
of the placeholders; accuracy over P = 1, 2, 4, 8 is their capacity curve. The tasks `compress_1`
to `compress_8` ask the same rows with so many placeholders, `compress` with four.
"""

from collections.abc import Callable, Sequence

from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import INSTRUMENTS, LESSONS, Instrument, Lesson, Made
from jaxablate.data.synthetic.recall import Pair, draw_pairs, say_pairs
from jaxablate.data.synthetic.words import NUMBERS

NUM_PAIRS = 4
NUM_SLOTS = (1, 2, 4, 8)


def ask(pairs: Sequence[Pair], key: str, num_slots: int) -> tuple[str, str, str]:
    """The three parts of the prompt that a value follows; the second is the placeholders alone.

    >>> ask([("lamp", "stone"), ("river", "cloud")], "lamp", 2)
    ('Pairs: lamp stone; river cloud. Notes:', ' one two', '. Ask: lamp')
    """
    slots = "".join(f" {word}" for word in NUMBERS[:num_slots])
    return f"Pairs: {say_pairs(pairs)}. Notes:", slots, f". Ask: {key}"


def with_slots(num_slots: int) -> Callable[[Draw], Made]:
    """The maker of rows with so many placeholders; the rows are else the same for every number."""

    def make(draw: Draw) -> Made:
        pairs = draw_pairs(draw, NUM_PAIRS)
        key, value = draw.one(pairs)
        choices = draw.shuffled([value for _, value in pairs])
        texts = ask(pairs, key, num_slots)
        return Made(texts, tuple(choices), choices.index(value), tuple(sorted(pairs)))

    return make


INSTRUMENTS.register("compress")(Instrument(with_slots(4), stream="compress"))
for _num_slots in NUM_SLOTS:
    INSTRUMENTS.register(f"compress_{_num_slots}")(
        Instrument(with_slots(_num_slots), stream="compress")
    )


@LESSONS.register("compress")
def lesson(draw: Draw) -> Lesson:
    """2..8 pairs, a number of placeholders, and all keys in random order."""
    pairs = draw_pairs(draw, draw.between(2, 8))
    again = draw.shuffled(pairs)
    prompt = "".join(ask(pairs, again[0][0], draw.one(NUM_SLOTS)))
    rest = say_pairs(again).removeprefix(again[0][0])
    return Lesson(f"{prompt}{rest}.", len(prompt), tuple(sorted(pairs)))
