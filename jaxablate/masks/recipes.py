"""The named masks, each one line of algebra.

The drawings show queries as rows and keys as columns; P prompt, R response, L latent, G gist.

A prompt shared by several responses (the trunk and its branches, written `{R2|R2}` in a drawing)
needs no mask of its own: every mask here extends to it, see `jaxablate.masks.algebra`.
"""

from collections.abc import Callable

from jaxablate.core.registry import Registry
from jaxablate.core.slots import Role
from jaxablate.masks.algebra import Mask, SameSegment
from jaxablate.masks.atoms import Causal, From, FromPart, SamePart, To, ToPart, Window, Within

RECIPES: Registry[Callable[..., Mask]] = Registry("mask recipe")


def named() -> dict[str, Mask]:
    """Every recipe that takes no argument.

    >>> str(named()["prefix_lm"])
    'causal | within(prompt)'
    """
    return {name: RECIPES.get(name)() for name in RECIPES.names() if name not in _WITH_ARGUMENTS}


@RECIPES.register("causal")
def causal() -> Mask:
    """Each token sees itself and what came before.

    >>> show(causal(), "P3 R2")
      PPPRR
    P #....
    P ##...
    P ###..
    R ####.
    R #####
    """
    return Causal()


@RECIPES.register("full_bidirectional")
def full_bidirectional() -> Mask:
    """Every token sees its whole example.

    Leaky: a response token is visible to the positions that predict it, so scores and losses under
    this mask are meaningless. It is here for encoders, for prefills of a prompt alone (where it
    equals `prefix_lm`), and to reproduce that mistake.

    >>> show(full_bidirectional(), "P3 R2")
      PPPRR
    P #####
    P #####
    P #####
    R #####
    R #####
    """
    return SameSegment()


@RECIPES.register("prefix_lm")
def prefix_lm() -> Mask:
    """The prompt sees itself both ways, responses are causal (arXiv 1910.10683, fig. 3).

    The last prompt position sees no response, so its prediction of the first response token is
    honest; earlier prompt positions see their successors and must not be supervised.

    >>> show(prefix_lm(), "P3 R2")
      PPPRR
    P ###..
    P ###..
    P ###..
    R ####.
    R #####
    """
    return Causal() | Within(Role.PROMPT)


@RECIPES.register("shared_prompt")
def shared_prompt() -> Mask:
    """`prefix_lm` on a row in which several responses share one prompt; the same rule.

    The responses are branches: each sees the prompt and itself and never another response, so each
    row of the drawing is the row that the prompt with that one response would have.

    >>> show(shared_prompt(), "P3 {R2|R1}")
      PPPRRR
    P ###...
    P ###...
    P ###...
    R ####..
    R #####.
    R ###..#
    """
    return prefix_lm()


@RECIPES.register("sliding_window")
def sliding_window(window: int) -> Mask:
    """Causal, at most `window` keys back, self included (Mistral, arXiv 2310.06825, sect. 2).

    >>> show(sliding_window(2), "P3 R2")
      PPPRR
    P #....
    P ##...
    P .##..
    R ..##.
    R ...##
    """
    return Causal() & Window(window)


@RECIPES.register("segment_bidirectional")
def segment_bidirectional() -> Mask:
    """Each part of the prompt is a bidirectional block, the rest is causal.

    A part is a system text, a turn or a document (Katz et al., ACL 2025, arXiv 2412.18487). With
    one part this is `prefix_lm`; slots without a part (number 0) stay causal.

    >>> show(segment_bidirectional(), "P2/1 P2/2 R1")
      PPPPR
    P ##...
    P ##...
    P ####.
    P ####.
    R #####
    """
    return Causal() | (SamePart() & Within(Role.PROMPT))


@RECIPES.register("gist_parts")
def gist_parts() -> Mask:
    """Causal, but what comes later knows part 1 of the prompt only through the slots of part 2.

    Gist masking (arXiv 2304.08467) where the gist is a part of the prompt, such as the placeholders
    of the instrument `compress`.

    >>> show(gist_parts(), "P3/1 P2/2 P1/3 R1")
      PPPPPPR
    P #......
    P ##.....
    P ###....
    P ####...
    P #####..
    P ...###.
    R ...####
    """
    return Causal() & ~(ToPart(1) & ~FromPart(1) & ~FromPart(2))


@RECIPES.register("gist")
def gist() -> Mask:
    """Causal, but responses know the prompt only through the gist slots (arXiv 2304.08467, fig. 2).

    >>> show(gist(), "P3 G1 R2")
      PPPGRR
    P #.....
    P ##....
    P ###...
    G ####..
    R ...##.
    R ...###
    """
    return Causal() & ~(From(Role.RESPONSE) & To(Role.PROMPT))


def show(mask: Mask, layout: str) -> None:
    """Print the drawing of `mask` on a layout such as "P3 R2"."""
    from jaxablate.masks.draw import draw

    print(draw(mask, layout))  # noqa: T201 (what it is for)


_WITH_ARGUMENTS = {"sliding_window"}
