"""`parts`: a code book in a system part, a message in a user part, the question last.

The parts are numbered, so that masks can tell them apart: `segment_bidirectional` opens each part
to itself only, `prefix_lm` opens the whole prompt.
"""

from collections.abc import Sequence

from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import INSTRUMENTS, LESSONS, Instrument, Lesson, Made
from jaxablate.data.synthetic.recall import Pair, draw_pairs, say_pairs
from jaxablate.data.synthetic.words import NUMBERS

NUM_PAIRS, NUM_WORDS = 6, 4


def ask(book: Sequence[Pair], message: Sequence[str], at: int) -> tuple[str, str]:
    """Both parts of the prompt for the plain form of word `at`, counted from 0.

    >>> "".join(ask([("lamp", "stone"), ("river", "cloud")], ["river", "lamp"], 0))
    'Code: lamp stone; river cloud. Message: river lamp. Word one:'
    """
    question = f" Message: {' '.join(message)}. Word {NUMBERS[at]}:"
    return f"Code: {say_pairs(book)}.", question


@INSTRUMENTS.register("parts")
@Instrument
def parts(draw: Draw) -> Made:
    """Six codes, four of them in the message; their plain forms are the choices (chance 1/4)."""
    book, message = _draw(draw, NUM_PAIRS, NUM_WORDS)
    at = draw.below(NUM_WORDS)
    right = dict(book)[message[at]]
    choices = draw.shuffled([dict(book)[word] for word in message])
    return Made(
        ask(book, message, at), tuple(choices), choices.index(right), _content(book, message)
    )


@LESSONS.register("parts")
def lesson(draw: Draw) -> Lesson:
    """A book of 2..8 codes, a message of up to 6, and all of its words asked in random order."""
    num_pairs = draw.between(2, 8)
    book, message = _draw(draw, num_pairs, draw.between(1, min(num_pairs, 6)))
    order = draw.shuffled(range(len(message)))
    prompt = "".join(ask(book, message, order[0]))
    answers = [dict(book)[message[at]] for at in order]
    said = [f" Word {NUMBERS[at]}: {word}." for at, word in zip(order, answers, strict=True)]
    rest = "".join(said).removeprefix(f" Word {NUMBERS[order[0]]}:")
    return Lesson(prompt + rest, len(prompt), _content(book, message))


def _draw(draw: Draw, num_pairs: int, num_words: int) -> tuple[list[Pair], list[str]]:
    book = draw_pairs(draw, num_pairs)
    return book, [code for code, _ in draw.some(book, num_words)]


def _content(book: Sequence[Pair], message: Sequence[str]) -> object:
    return (*sorted(book), *message)
