"""`recall`: which value did this key have? And the text that teaches recall to a model.

Multi-query associative recall in words (Arora et al. 2023, arXiv 2312.04927): pairs of a key and
a value, then keys again, each with its value. A text to learn from asks for all of its keys, and
the number of pairs is uniform in 2..24: recall comes as a phase transition, and small texts bring
it on.
"""

from collections.abc import Sequence

from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import INSTRUMENTS, LESSONS, Instrument, Lesson, Made
from jaxablate.data.synthetic.words import KEYS, VALUES

Pair = tuple[str, str]
NUM_PAIRS = 8


def draw_pairs(draw: Draw, count: int, *, words: int = 1) -> list[Pair]:
    """`count` pairs of a key and a value of so many words; no word comes twice."""
    keys, values = draw.some(KEYS, count), draw.some(VALUES, count * words)
    return [(key, " ".join(values[i * words : (i + 1) * words])) for i, key in enumerate(keys)]


def say_pairs(pairs: Sequence[Pair]) -> str:
    """The pairs as text.

    >>> say_pairs([("lamp", "stone"), ("river", "cloud")])
    'lamp stone; river cloud'
    """
    return "; ".join(f"{key} {value}" for key, value in pairs)


def ask(pairs: Sequence[Pair], key: str) -> str:
    """The prompt that a value follows.

    >>> ask([("lamp", "stone"), ("river", "cloud")], "lamp")
    'Pairs: lamp stone; river cloud. Ask: lamp'
    """
    return f"Pairs: {say_pairs(pairs)}. Ask: {key}"


@INSTRUMENTS.register("recall")
@Instrument
def recall(draw: Draw) -> Made:
    """Eight pairs, one key; all eight values are choices (chance 1/8)."""
    pairs = draw_pairs(draw, NUM_PAIRS)
    key, value = draw.one(pairs)
    choices = draw.shuffled([value for _, value in pairs])
    content = tuple(sorted(pairs))
    return Made((ask(pairs, key),), tuple(choices), choices.index(value), content)


@LESSONS.register("recall")
def lesson(draw: Draw) -> Lesson:
    """Pairs and all keys again (values of one word, or of two), or a list of words copied."""
    kind = draw.below(20)
    if kind < 3:
        return _copying(draw)
    if kind < 8:
        return _all_keys(draw, draw_pairs(draw, draw.between(2, 12), words=2))
    return _all_keys(draw, draw_pairs(draw, draw.between(2, 24)))


def _all_keys(draw: Draw, pairs: list[Pair]) -> Lesson:
    again = draw.shuffled(pairs)
    prompt = ask(pairs, again[0][0])
    rest = say_pairs(again).removeprefix(again[0][0])
    return Lesson(f"{prompt}{rest}.", len(prompt), tuple(sorted(pairs)))


def _copying(draw: Draw) -> Lesson:
    words = " ".join(draw.some(KEYS + VALUES, draw.between(3, 24)))
    prompt = f"Words: {words}. Again:"
    return Lesson(f"{prompt} {words}.", len(prompt))
