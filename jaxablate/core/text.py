"""Foreign text made safe to show: nothing in it moves a cursor or reorders a line."""


def visible(text: object) -> str:
    r"""The text with everything unprintable (escapes, bidi marks) spelled out; newlines stay.

    >>> visible("a\x1b[2Jb\u202e")
    'a\\x1b[2Jb\\u202e'
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else _spelled(letter)
        for letter in str(text)
    )


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
