"""Items to token ids: where a continuation begins, what stands before it, what is shared.

How a continuation is cut from its context is a declared policy, since a token may span the border:

    count   as many tokens as the context has alone are the context's. This is what both references
            do. `standard` then reads the context's own tokens (lm-evaluation-harness: trailing
            whitespace of the context moves over first); `compat` reads the whole text's.
    offset  the continuation starts at the first token with a character past the border.

Whenever a context's tokens are not how the whole text begins, the pair counts as a mismatch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxablate.core.errors import UserError, unknown
from jaxablate.core.files import digest
from jaxablate.data.tokenizer import Tokenizer, first_token_past
from jaxablate.engine.layout import Question
from jaxablate.evaluation.task import Item

Ids = tuple[int, ...]
BOUNDARIES = ("count", "offset")
BOS_POLICIES = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True)
class EncodeRule:
    """How texts become ids.

    Attributes:
        variant: "standard" or "compat"; decides the finer points of "count" and empty contexts.
        bos: put BOS in front of every text.
        boundary: "count" or "offset".
        max_length: tokens the model reads at most; contexts are cut from the left.
    """

    variant: str
    bos: bool
    boundary: str
    max_length: int

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, *, variant: str, bos: str, boundary: str, max_length: int
    ) -> "EncodeRule":
        """The rule that policy words mean for this tokenizer.

        `bos="auto"` does what the tokenizer's folder says (`standard`), or adds none (`compat`).
        """
        if bos not in BOS_POLICIES:
            raise unknown("bos policy", bos, BOS_POLICIES)
        if boundary not in BOUNDARIES:
            raise unknown("boundary policy", boundary, BOUNDARIES)
        if bos == "yes" and tokenizer.bos_id is None:
            raise UserError(f"bos=yes: the tokenizer in {tokenizer.folder} has no BOS token")
        automatic = variant == "standard" and tokenizer.adds_bos
        return cls(
            variant=variant,
            bos=bos == "yes" or (bos == "auto" and automatic),
            boundary=boundary,
            max_length=max_length,
        )


@dataclass(frozen=True)
class Pair:
    """One (context, continuation) as ids.

    `mismatch`: a token spans the border of the texts. `part_starts`: tokens of the prompt at which
    its part 2, 3, ... begins.
    """

    prompt: Ids
    continuation: Ids
    mismatch: bool
    truncated: bool = False
    part_starts: Ids = ()


@dataclass(frozen=True)
class Place:
    """Where a choice's score is found: a question and which of its continuations."""

    question: int
    continuation: int


@dataclass(frozen=True)
class Encoded:
    """Items as questions for the engine.

    `places[i][c]` is None where choice c has no token of its own: it scores minus infinity.
    """

    items: tuple[Item, ...]
    questions: tuple[Question, ...]
    places: tuple[tuple[Place | None, ...], ...]
    digests: tuple[str, ...]
    boundary_mismatches: int
    truncated: int
    without_tokens: int

    @property
    def num_pairs(self) -> int:
        """Choices over all items."""
        return sum(map(len, self.places))


def encode_items(
    items: Sequence[Item], tokenizer: Tokenizer, rule: EncodeRule, *, first_question: int = 0
) -> Encoded:
    """Questions of all items; choices of an item with equal prompts share one.

    `first_question` is the number of the first one, when they follow those of other tasks.
    """
    texts = [pair for item in items for pair in zip(item.contexts, item.continuations, strict=True)]
    pairs = iter(encode_pairs(texts, tokenizer, rule))
    questions: list[Question] = []
    places, digests, counted = [], [], []
    for item in items:
        own = [next(pairs) for _ in item.continuations]
        if item.parts:
            own = [
                _with_parts(pair, context, item.parts, tokenizer, rule)
                for pair, context in zip(own, item.contexts, strict=True)
            ]
        _check_length(own, item, rule.max_length)
        places.append(_group(own, questions, first_question))
        digests.append(digest([_content(pair) for pair in own]))
        counted += own
    return Encoded(
        items=tuple(items),
        questions=tuple(questions),
        places=tuple(places),
        digests=tuple(digests),
        boundary_mismatches=sum(pair.mismatch for pair in counted),
        truncated=sum(pair.truncated for pair in counted),
        without_tokens=sum(not pair.continuation for pair in counted),
    )


def encode_pairs(
    texts: Sequence[tuple[str, str]], tokenizer: Tokenizer, rule: EncodeRule
) -> list[Pair]:
    """Ids of (context, continuation) pairs, truncated to `rule.max_length`."""
    if rule.variant == "standard":
        texts = [move_trailing_space(*pair) for pair in texts]
    contexts = sorted({context for context, _ in texts})
    alone = dict(zip(contexts, tokenizer.encode_batch(contexts), strict=True))
    pairs = []
    for (context, _), (ids, cut) in zip(texts, _wholes(texts, tokenizer, rule), strict=True):
        before = alone[context]
        mismatch = ids[: len(before)] != before
        if cut is not None:
            prompt, continuation = ids[:cut], ids[cut:]
        else:
            continuation = ids[len(before) :]
            prompt = before if rule.variant == "standard" else ids[: len(before)]
        prompt, continuation = _give_prompt(prompt, continuation, tokenizer, rule)
        kept = truncate(prompt, continuation, rule.max_length)
        pairs.append(Pair(kept, continuation, mismatch, truncated=len(kept) < len(prompt)))
    return pairs


def _wholes(
    texts: Sequence[tuple[str, str]], tokenizer: Tokenizer, rule: EncodeRule
) -> list[tuple[list[int], int | None]]:
    """Ids of the joined texts, and where the characters of the second begin if that is asked."""
    joined = [context + rest for context, rest in texts]
    if rule.boundary != "offset":
        return [(ids, None) for ids in tokenizer.encode_batch(joined)]
    encoded = tokenizer.encode_offsets_batch(joined)
    return [
        (ids, first_token_past(offsets, len(context)))
        for (context, _), (ids, offsets) in zip(texts, encoded, strict=True)
    ]


def move_trailing_space(context: str, continuation: str) -> tuple[str, str]:
    """Whitespace at the end of the context goes to the front of the continuation.

    >>> move_trailing_space("so ", "it is")
    ('so', ' it is')
    """
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _give_prompt(
    prompt: list[int], continuation: list[int], tokenizer: Tokenizer, rule: EncodeRule
) -> tuple[Ids, Ids]:
    """BOS by the rule; without any prompt, BOS (else EOS) stands in.

    `compat` has no special tokens: there the first token is the prompt and is not scored.
    """
    if prompt or not continuation:
        return tuple(tokenizer.with_bos(prompt, rule.bos)), tuple(continuation)
    prefix = tokenizer.prefix_id
    if prefix == continuation[0] or (rule.variant == "compat" and not rule.bos):
        return tuple(continuation[:1]), tuple(continuation[1:])
    if prefix is None:
        raise UserError(
            f"a context is empty and the tokenizer in {tokenizer.folder} has neither BOS nor EOS "
            "to stand in for it"
        )
    return (prefix,), tuple(continuation)


def truncate(prompt: Ids, continuation: Ids, max_length: int) -> Ids:
    """The end of the prompt that fits; the last token is never read, so it does not count."""
    keep = max_length + 1 - len(continuation)
    return prompt[max(len(prompt) - keep, 0) :]


def _with_parts(
    pair: Pair, context: str, parts: Ids, tokenizer: Tokenizer, rule: EncodeRule
) -> Pair:
    """The pair with its parts' first tokens; a token across the border is the later part's.

    They are counted from the end of the prompt, where a BOS or a cut changes nothing.
    """
    kept = context.rstrip() if rule.variant == "standard" else context
    _, offsets = tokenizer.encode_offsets(kept)
    shift = len(pair.prompt) - len(offsets)
    starts = (max(first_token_past(offsets, part) + shift, 0) for part in parts)
    return replace(pair, part_starts=tuple(starts))


def _content(pair: Pair) -> list[Ids]:
    """What names a pair; a prompt of one part is named by its ids alone."""
    return [pair.prompt, pair.continuation, *([pair.part_starts] if pair.part_starts else [])]


def _check_length(pairs: Sequence[Pair], item: Item, max_length: int) -> None:
    longest = max(len(pair.continuation) for pair in pairs)
    if longest > max_length:
        raise UserError(
            f"{item.id}: an answer has {longest} tokens, the model reads at most {max_length}"
        )


def _group(
    pairs: Sequence[Pair], questions: list[Question], first_question: int
) -> tuple[Place | None, ...]:
    """Add an item's questions to the list; say where each choice went."""
    by_prompt: dict[Ids, list[Ids]] = {}
    spots: list[tuple[Ids, int] | None] = []
    for pair in pairs:
        if not pair.continuation:
            spots.append(None)
            continue
        members = by_prompt.setdefault(pair.prompt, [])
        spots.append((pair.prompt, len(members)))
        members.append(pair.continuation)
    first = first_question + len(questions)
    index = {prompt: first + i for i, prompt in enumerate(by_prompt)}
    starts = {pair.prompt: pair.part_starts for pair in pairs}
    questions += [
        Question(prompt, tuple(members), starts[prompt]) for prompt, members in by_prompt.items()
    ]
    return tuple(spot and Place(index[spot[0]], spot[1]) for spot in spots)
