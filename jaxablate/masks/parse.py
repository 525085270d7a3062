"""The mask algebra as text: `causal & window(4096) | within(prompt)`, read without `eval`.

    rule   = term { "|" term }
    term   = factor { "&" factor }
    factor = "~" factor | "(" rule ")" | name [ "(" argument { "," argument } ")" ]

A name is an atom (`jaxablate.masks.atoms`) or a recipe (`jaxablate.masks.recipes`), an argument a
whole number, a range of them (`0-11`) or a role. `~` binds tightest, then `&`, then `|`.
`parse(str(mask)) == mask` for every mask.
"""

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from jaxablate.core.errors import UserError, nearest
from jaxablate.masks.algebra import And, Mask, Not, Or
from jaxablate.masks.atoms import ATOMS, whole_number
from jaxablate.masks.recipes import RECIPES

MAX_LENGTH = 2000
MAX_DEPTH = 50
_TOKEN = re.compile(r"[ \t\r\n]*(?P<word>[A-Za-z_][A-Za-z0-9_]*|-?[0-9]+(?:-[0-9]+)?|[&|~(),]|\Z)")


def parse(text: str) -> Mask:
    """The mask that `text` describes; `UserError` with the column of the first mistake otherwise.

    >>> parse("prefix_lm")
    Or(terms=(Causal(), Within(role=<Role.PROMPT: 1>)))
    >>> print(parse("~(causal&window( 4))"))
    ~(causal & window(4))
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"a mask has at most {MAX_LENGTH} characters, got {len(text)}")
    parser = _Parser(text, _tokens(text))
    mask = parser.rule(0)
    if parser.token.text:
        raise parser.error(f"expected '&', '|' or the end, got {parser.token.text!r}")
    return mask


def names() -> dict[str, str]:
    """Every atom and recipe as one writes it, with the first line of its description."""
    described = {}
    for registry in (ATOMS, RECIPES):
        for name in registry.names():
            first = (inspect.getdoc(registry.get(name)) or "").split("\n\n")[0]
            described[name + _signature(name)] = " ".join(first.split())
    return described


@dataclass(frozen=True)
class _Token:
    text: str  # "" at the end
    column: int  # from 0


class _Parser:
    def __init__(self, text: str, tokens: list[_Token]):
        self.text, self.tokens, self.index = text, tokens, 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.index]

    def rule(self, depth: int) -> Mask:
        terms = [self.term(depth)]
        while self.accept("|"):
            terms.append(self.term(depth))
        return Or(tuple(terms)) if len(terms) > 1 else terms[0]

    def term(self, depth: int) -> Mask:
        factors = [self.factor(depth)]
        while self.accept("&"):
            factors.append(self.factor(depth))
        return And(tuple(factors)) if len(factors) > 1 else factors[0]

    def factor(self, depth: int) -> Mask:
        if depth > MAX_DEPTH:
            raise self.error(f"at most {MAX_DEPTH} nested '~' and '(' are possible")
        if self.accept("~"):
            return Not(self.factor(depth + 1))
        if self.accept("("):
            mask = self.rule(depth + 1)
            self.expect(")", "'&', '|' or ')'")
            return mask
        return self.named()

    def named(self) -> Mask:
        start = self.token
        if not _is_name(start.text):
            raise self.error(f"expected a name, '~' or '(', got {_shown(start)}")
        self.index += 1
        known = (*ATOMS.names(), *RECIPES.names())
        if start.text not in known:
            guess = nearest(start.text, known)
            hint = f"; did you mean {guess!r}?" if guess else ""
            message = f"unknown name {start.text!r}; known: {', '.join(sorted(set(known)))}{hint}"
            raise self.error(message, start)
        arguments = self.arguments()
        build = _builder(start.text)
        self.check_number(start, build, len(arguments))
        try:
            return build(*(argument.text for argument in arguments))
        except UserError as error:
            raise self.error(str(error), arguments[0] if arguments else start) from None

    def arguments(self) -> list[_Token]:
        if not self.accept("("):
            return []
        found = []
        while True:
            if not re.fullmatch("[A-Za-z0-9_-]+", self.token.text):
                raise self.error(f"expected a number or a role, got {_shown(self.token)}")
            found.append(self.token)
            self.index += 1
            if not self.accept(","):
                self.expect(")", "',' or ')'")
                return found

    def check_number(self, name: _Token, build: Callable[..., Mask], got: int) -> None:
        least, most = _arity(build)
        if not least <= got <= most:
            more = "" if most == least else " or more" if most == math.inf else f" to {most}"
            raise self.error(f"{name.text} takes {least}{more} argument(s), got {got}", name)

    def accept(self, text: str) -> bool:
        found = self.token.text == text
        self.index += found
        return found

    def expect(self, text: str, wanted: str) -> None:
        if not self.accept(text):
            raise self.error(f"expected {wanted}, got {_shown(self.token)}")

    def error(self, message: str, token: _Token | None = None) -> UserError:
        return _error(self.text, (token or self.token).column, message)


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while True:
        match = _TOKEN.match(text, at)
        if not match:
            column = at + len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
            raise _error(text, column, f"a mask has no character {text[column]!r}")
        tokens.append(_Token(match["word"], match.start("word")))
        if not match["word"]:
            return tokens
        at = match.end()


def _error(text: str, column: int, message: str) -> UserError:
    left = max(0, column - 50)
    shown = re.sub(r"[^\x20-\x7e]", " ", text[left : column + 30])
    caret = " " * (column - left)
    return UserError(f"mask, column {column + 1}: {message}\n    {shown}\n    {caret}^")


def _builder(name: str) -> Callable[..., Mask]:
    """What makes the mask called `name` out of the texts of its arguments."""
    if name not in RECIPES.names():
        atom = ATOMS.get(name)
        return getattr(atom, "parse", atom)
    recipe = RECIPES.get(name)

    @wraps(recipe)
    def build(*texts: str) -> Mask:
        return recipe(*(whole_number(name, text, least=1) for text in texts))

    return build


def _arity(build: Callable[..., Mask]) -> tuple[int, int | float]:
    """The least and the greatest number of arguments."""
    parameters = inspect.signature(build).parameters.values()
    endless = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    single = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    least = sum(parameter.default is parameter.empty for parameter in single)
    return least, math.inf if endless else len(single)


def _signature(name: str) -> str:
    """How the arguments of `name` are written, "" if there are none."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    texts = [p.name if p.default is p.empty else f"[{p.name}]" for p in parameters]
    repeated = {p.name for p in parameters if p.kind is p.VAR_POSITIONAL}
    return f"({', '.join('...' if t in repeated else t for t in texts)})" if texts else ""


def _is_name(text: str) -> bool:
    return bool(text) and (text[0].isalpha() or text[0] == "_")


def _shown(token: _Token) -> str:
    return repr(token.text) if token.text else "the end"
