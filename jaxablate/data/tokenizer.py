"""A checkpoint's tokenizer, read from its folder without transformers.

Special tokens are never added behind the caller's back: BOS is an argument. What tokenizer.json
itself would do is a property, `adds_bos`, that a policy may follow.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from jaxablate.core.errors import UserError
from jaxablate.core.files import digest, read_json, sha256_file

LOG = logging.getLogger(__name__)
Span = tuple[int, int]

# What an exported folder needs for transformers to build the same tokenizer.
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class SpecialIds:
    """Ids with a meaning; None where the checkpoint has no such token."""

    bos: int | None
    eos: tuple[int, ...]
    pad: int | None
    tokenizer_eos: int | None


class Tokenizer:
    """Text to ids and back; `Tokenizer.load(folder)` makes one.

    Attributes:
        bos_id: beginning of sequence, as the tokenizer's own files say; None if it has none.
        eos_ids: tokens that end a generation (generation_config.json, config.json, tokenizer).
        pad_id: padding token, or None.
        adds_bos: whether transformers would put BOS in front by default.
    """

    def __init__(self, core: Any, special: SpecialIds, *, adds_bos: bool, folder: Path):
        core.no_padding()
        core.no_truncation()
        self._core, self._special, self.folder = core, special, folder
        self.bos_id, self.eos_ids, self.pad_id = special.bos, special.eos, special.pad
        self.adds_bos = adds_bos and special.bos is not None

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """The tokenizer of a checkpoint folder; raises `UserError` that names the broken file."""
        folder = Path(folder)
        core = _read_core(folder / "tokenizer.json")
        special = _special_ids(core, folder)
        # Transformers 5 asks tokenizer.json alone, whatever `add_bos_token` says beside it.
        adds_bos = core.encode("", add_special_tokens=True).ids[:1] == [special.bos]
        return cls(core, special, adds_bos=adds_bos, folder=folder)

    @property
    def vocab_size(self) -> int:
        """Tokens with a text, added ones included; the embedding may have more rows."""
        return self._core.get_vocab_size(with_added_tokens=True)

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's own end of sequence, whatever else ends a generation."""
        return self._special.tokenizer_eos

    @property
    def prefix_id(self) -> int | None:
        """What stands in front of a text with nothing before it: BOS, else the tokenizer's EOS."""
        return self.bos_id if self.bos_id is not None else self._special.tokenizer_eos

    @cached_property
    def digest(self) -> str:
        """Names the text-to-ids function: tokenizer.json and the special ids."""
        ids = [self.bos_id, list(self.eos_ids), self.pad_id, self.prefix_id, self.adds_bos]
        return digest([sha256_file(self.folder / "tokenizer.json"), ids])

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the folder that belong to the tokenizer."""
        return tuple(path for name in FILES if (path := self.folder / name).is_file())

    def encode(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Ids of `text`. With `add_bos`, BOS comes first, once: one written in the text counts."""
        return self.with_bos(self._core.encode(text, add_special_tokens=False).ids, add_bos)

    def encode_batch(self, texts: Sequence[str], *, add_bos: bool = False) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        encodings = self._core.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self.with_bos(encoding.ids, add_bos) for encoding in encodings]

    def encode_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids, and the characters `text[start:end]` that each stands for; no BOS is added."""
        return self.encode_offsets_batch([text])[0]

    def encode_offsets_batch(self, texts: Sequence[str]) -> list[tuple[list[int], list[Span]]]:
        """`encode_offsets` of each text, in parallel."""
        encodings = self._core.encode_batch(list(texts), add_special_tokens=False)
        return [(encoding.ids, encoding.offsets) for encoding in encodings]

    def encode_pair(
        self, prompt: str, continuation: str, *, add_bos: bool = False
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of both texts, tokenised joined and cut where the continuation's characters begin.

        A token that spans the border belongs to the continuation. An empty prompt becomes
        `prefix_id`.
        """
        ids, offsets = self.encode_offsets(prompt + continuation)
        cut = first_token_past(offsets, len(prompt))
        before = self.with_bos(ids[:cut], add_bos)
        if not before and self.prefix_id is not None:
            before = [self.prefix_id]
        return tuple(before), tuple(ids[cut:])

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of ids."""
        return self._core.decode(list(ids), skip_special_tokens=skip_special)

    def with_bos(self, ids: list[int], add_bos: bool = True) -> list[int]:
        """`ids` with BOS in front, unless it is there."""
        if not add_bos:
            return ids
        if self.bos_id is None:
            raise UserError(f"{self.folder}: BOS was asked for, this tokenizer has no BOS token")
        if ids[:1] == [self.bos_id]:
            LOG.warning("the text begins with BOS already; it is not added again")
            return ids
        return [self.bos_id, *ids]


def first_token_past(offsets: Sequence[Span], border: int) -> int:
    """Index of the first token with a character at or after `border`.

    >>> first_token_past([(0, 3), (3, 8), (8, 9)], 4)
    1
    """
    return next((i for i, (_, end) in enumerate(offsets) if end > border), len(offsets))


def _read_core(path: Path) -> Any:
    table = read_json(path)
    if not isinstance(table, dict) or "model" not in table:
        raise UserError(f"{path}: not a tokenizer.json (it has no 'model')")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises a bare Exception
        raise UserError(
            f"{path}: not a usable tokenizer ({' '.join(str(error).split())})"
        ) from None


def _special_ids(core: Any, folder: Path) -> SpecialIds:
    """The tokenizer's own files first, then the model's.

    A tokenizer_config.json that gives no BOS means that there is none, whatever config.json says.
    """
    names = {**_table(folder, "special_tokens_map.json"), **_table(folder, "tokenizer_config.json")}
    model = _table(folder, "config.json")
    ids = {**model, **(model.get("text_config") or {}), **_table(folder, "generation_config.json")}
    has_own = any((folder / name).is_file() for name in FILES[1:3])

    def own(key: str) -> int | None:
        if has_own:
            return _token_id(core, names.get(key), folder)
        return next(iter(_id_list(ids.get(f"{key}_id"), key, folder)), None)

    tokenizer_eos = own("eos_token")
    eos = _id_list(ids.get("eos_token_id"), "eos_token", folder)
    if not eos and tokenizer_eos is not None:
        eos = (tokenizer_eos,)
    pad = own("pad_token")
    if pad is None:
        pad = next(iter(_id_list(ids.get("pad_token_id"), "pad_token", folder)), None)
    return SpecialIds(own("bos_token"), eos, pad, tokenizer_eos)


def _table(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        return {}
    table = read_json(path)
    if not isinstance(table, dict):
        raise UserError(f"{path}: wanted a table, got {type(table).__name__}")
    return table


def _token_id(core: Any, token: Any, folder: Path) -> int | None:
    text = token.get("content") if isinstance(token, dict) else token
    if text is None:
        return None
    found = core.token_to_id(text) if isinstance(text, str) else None
    if found is None:
        raise UserError(f"{folder}: special token {text!r} is not in tokenizer.json")
    return found


def _id_list(value: Any, key: str, folder: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(item) is int for item in values):
        raise UserError(f"{folder}: {key}_id must be an integer or a list of them, got {value!r}")
    return tuple(values)
