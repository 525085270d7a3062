"""`facts`: short lists of facts in words, then questions about them; text to learn from only."""

from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import LESSONS, Lesson
from jaxablate.data.synthetic.words import KEYS, PEOPLE, VALUES

VERBS = ("like", "see", "want", "draw", "paint", "need")


@LESSONS.register("facts")
def lesson(draw: Draw) -> Lesson:
    """2..10 people, a thing each, and up to four questions about who or what."""
    count, verb = draw.between(2, 10), draw.one(VERBS)
    facts = list(zip(draw.some(PEOPLE, count), draw.some(KEYS + VALUES, count), strict=True))
    said = "".join(f"{name} {verb}s the {thing}. " for name, thing in facts)
    asked = draw.some(facts, min(count, 4))
    exercises = [_exercise(draw, verb, name, thing) for name, thing in asked]
    (question, answer), *others = exercises
    rest = "".join(f" {other} {reply}." for other, reply in others)
    return Lesson(f"{said}{question} {answer}.{rest}", len(said + question))


def _exercise(draw: Draw, verb: str, name: str, thing: str) -> tuple[str, str]:
    if draw.below(2):
        return f"Who {verb}s the {thing}?", name
    return f"What does {name} {verb}?", f"The {thing}"
