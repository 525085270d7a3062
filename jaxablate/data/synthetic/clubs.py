"""`clubs`: a fixed table of people and clubs that a model must know by heart.

A row names six people, then asks for the one member of a club among them. Under a causal mask no
person's token knows the club; under an open prompt each can look it up for itself. `clubs_first`
asks the same rows with the club first, which a causal model can do too: it is the control.

The texts to learn from state the table and ask with the club first, never last: the question at
the end is what a finetuning under a mask is to teach. (After a public re-creation of Bitune,
arXiv 2405.14862.)
"""

from functools import cache

from jaxablate.data.synthetic.draw import Draw
from jaxablate.data.synthetic.instrument import INSTRUMENTS, LESSONS, Instrument, Lesson, Made
from jaxablate.data.synthetic.words import CLUBS, PEOPLE

CLUBS_OF_A_PERSON = 4
NUM_PEOPLE = 6


@cache
def members() -> dict[str, tuple[str, ...]]:
    """The members of each club: a quarter of the people, and each person is in four clubs.

    Equal numbers keep a guess that knows only how often a name is right at chance.
    """
    draw = Draw("clubs/table")
    share = len(PEOPLE) // len(CLUBS)
    seats = [club for club in CLUBS for _ in range(share)]
    clubs: list[list[str]] = [[] for _ in PEOPLE]
    for _ in range(CLUBS_OF_A_PERSON):
        dealt = draw.shuffled(seats)
        while (twice := _seated_twice(clubs, dealt)) is not None:
            other = draw.below(len(dealt))
            dealt[twice], dealt[other] = dealt[other], dealt[twice]
        for own, club in zip(clubs, dealt, strict=True):
            own.append(club)
    return {
        club: tuple(name for name, own in zip(PEOPLE, clubs, strict=True) if club in own)
        for club in CLUBS
    }


def _seated_twice(clubs: list[list[str]], dealt: list[str]) -> int | None:
    pairs = enumerate(zip(clubs, dealt, strict=True))
    return next((at for at, (own, club) in pairs if club in own), None)


def draw_six(draw: Draw) -> tuple[str, list[str], str]:
    """A club, six people and the only member among them."""
    club = draw.one(CLUBS)
    member = draw.one(members()[club])
    others = [name for name in PEOPLE if name not in members()[club]]
    return club, draw.shuffled([member, *draw.some(others, NUM_PEOPLE - 1)]), member


def _say(people: list[str]) -> str:
    return f"People: {', '.join(people)}."


def _row(draw: Draw, *, club_first: bool) -> Made:
    club, people, member = draw_six(draw)
    texts = (f"Club: {club}.", _say(people)) if club_first else (_say(people), f"Club: {club}.")
    prompt = f"{' '.join(texts)} Member:"
    return Made((prompt,), tuple(people), people.index(member), tuple(sorted(people)))


def clubs(draw: Draw) -> Made:
    """Six people, then the club; the choices are the six (chance 1/6)."""
    return _row(draw, club_first=False)


def clubs_first(draw: Draw) -> Made:
    """The club, then six people: the control that a causal model can answer."""
    return _row(draw, club_first=True)


INSTRUMENTS.register("clubs")(Instrument(clubs, stream="clubs"))
INSTRUMENTS.register("clubs_first")(Instrument(clubs_first, stream="clubs"))


@LESSONS.register("clubs")
def lesson(draw: Draw) -> Lesson:
    """Half of the texts are exercises with the club first, half state facts of the table."""
    if draw.below(2):
        made = _row(draw, club_first=True)
        (prompt,) = made.parts
        return Lesson(f"{prompt} {made.choices[made.label]}", len(prompt), made.content)
    return Lesson(draw.one((_of_a_person, _of_a_club, _yes_or_no))(draw), 0)


def _of_a_person(draw: Draw) -> str:
    name = draw.one(PEOPLE)
    own = draw.shuffled([club for club in CLUBS if name in members()[club]])
    return " ".join(_fact(draw, name, club) for club in own)


def _of_a_club(draw: Draw) -> str:
    club = draw.one(CLUBS)
    names = draw.shuffled(members()[club])
    if draw.below(2):
        return f"The members of the {club} club are {', '.join(names[:-1])} and {names[-1]}."
    return " ".join(_fact(draw, name, club) for name in names)


def _yes_or_no(draw: Draw) -> str:
    """Questions about one club at a time, as many with yes as with no."""
    said = []
    for _ in range(4):
        club, people, member = draw_six(draw)
        name = member if draw.below(2) else next(other for other in people if other != member)
        answer = "Yes" if name == member else "No"
        said.append(f"Is {name} in the {club} club? {answer}.")
    return " ".join(said)


def _fact(draw: Draw, name: str, club: str) -> str:
    return draw.one(
        (
            f"{name} is in the {club} club.",
            f"{name} goes to the {club} club.",
            f"The {club} club has {name} as a member.",
            f"One member of the {club} club is {name}.",
        )
    )
