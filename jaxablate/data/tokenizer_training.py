"""A byte-level BPE tokenizer learned from the texts, in the style of a known family's."""

import hashlib
import heapq
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from jaxablate.core.errors import UserError
from jaxablate.core.files import write_atomic, write_json
from jaxablate.data.document import Document
from jaxablate.data.text_config import TokenizerConfig
from jaxablate.data.tokenizer import Tokenizer

# Both split digits one by one.
PATTERNS = {
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_TEKKEN_TOKENS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]")
SPECIAL_TOKENS = {
    "tekken": (*_TEKKEN_TOKENS, "[/SYSTEM_PROMPT]", "<pad>"),
    "qwen": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
}
_NAMED = {
    "tekken": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
    "qwen": {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
}
CHAT_TEMPLATES = {
    "tekken": "{% for m in messages %}"
    "{% if m['role'] == 'system' %}[SYSTEM_PROMPT]{{ m['content'] }}[/SYSTEM_PROMPT]"
    "{% elif m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
    "qwen": "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
}
# A sample is made of pieces about so long, so that no single book fills it.
_PIECE_CHARACTERS = 1 << 15


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig, folder: Path) -> None:
    """Learn merges from `texts`; write tokenizer.json and tokenizer_config.json into `folder`.

    The same texts give the same bytes. Text too short for `vocab_size` gives fewer tokens.
    """
    core = _untrained(config.style)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL_TOKENS[config.style]),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    table = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **_NAMED[config.style],
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATES[config.style],
    }
    write_json(folder / "tokenizer_config.json", table)
    write_atomic(folder / "tokenizer.json", core.to_str(pretty=True) + "\n")


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Take over an existing tokenizer's files; raises `UserError` if it is unfit."""
    tokenizer = Tokenizer.load(source)
    if tokenizer.eos_id is None:
        raise UserError(f"{source}: documents end with EOS, this tokenizer has none")
    for path in tokenizer.files:
        if path.parent.resolve() != folder.resolve():
            shutil.copyfile(path, folder / path.name)


Piece = tuple[bytes, str]


def sample(sources: Sequence[Iterable[Document]], *, megabytes: int, seed: int) -> list[str]:
    """Pieces of documents, as many bytes of each source; a small one leaves its rest to others.

    Which pieces is decided by a hash of seed, document and place, not by the order of documents.
    """
    left = megabytes * 1_000_000
    pools = [_lowest(documents, left, seed) for documents in sources]
    shares: dict[int, list[Piece]] = {}
    smallest_first = sorted(range(len(pools)), key=lambda index: (_size(pools[index]), index))
    for done, index in enumerate(smallest_first):
        shares[index] = _up_to(pools[index], left // (len(pools) - done))
        left -= _size(shares[index])
    return [text for index in range(len(pools)) for _, text in shares[index]]


def _lowest(documents: Iterable[Document], limit: int, seed: int) -> list[Piece]:
    """The pieces with the lowest ranks, about `limit` bytes, by rank."""
    kept: list[tuple[int, str]] = []
    size = 0
    for document in documents:
        for number, text in enumerate(_pieces(document.text)):
            name = hashlib.sha256(f"{seed}:{document.id}:{number}".encode()).digest()
            # The heap gives up its highest rank first.
            heapq.heappush(kept, (-int.from_bytes(name), text))
            size += _bytes(text)
            while size - _bytes(kept[0][1]) >= limit:
                size -= _bytes(heapq.heappop(kept)[1])
    return [((-rank).to_bytes(32), text) for rank, text in sorted(kept, reverse=True)]


def _pieces(text: str) -> Iterator[str]:
    """A text cut behind line ends."""
    start = 0
    while start < len(text):
        cut = text.find("\n", start + _PIECE_CHARACTERS)
        end = len(text) if cut < 0 else cut + 1
        yield text[start:end]
        start = end


def _up_to(pieces: list[Piece], limit: int) -> list[Piece]:
    taken, size = 0, 0
    while taken < len(pieces) and size < limit:
        size += _bytes(pieces[taken][1])
        taken += 1
    return pieces[:taken]


def _size(pieces: list[Piece]) -> int:
    return sum(_bytes(text) for _, text in pieces)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _untrained(style: str) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE(ignore_merges=style == "tekken"))
    if style == "qwen":
        core.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[style]), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    core.decoder = decoders.ByteLevel()
    return core
