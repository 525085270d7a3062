"""Small tokenizers in checkpoint folders, trained on a few sentences."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

SENTENCES = [
    "the cat sat on the mat. The man is on a roof, Sarah was a much better surgeon than Maria.",
    "Question: which of these is the answer? Answer: the first one is the answer to the question.",
    "a woman carries two boards across the yard and nails the first board to a post.",
]
SPECIALS = ["<pad>", "<s>", "</s>"]


def byte_bpe(vocab_size: int = 400) -> tokenizers.Tokenizer:
    """Byte-level BPE: any text has tokens; words take their leading space."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=SPECIALS,
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES * 4, trainer)
    return core


def metaspace(vocab_size: int = 300) -> tokenizers.Tokenizer:
    """Words marked by a leading low line, in the manner of SentencePiece models."""
    core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.decoder = decoders.Metaspace()
    specials = [*SPECIALS, "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, show_progress=False
    )
    core.train_from_iterator(SENTENCES * 4, trainer)
    return core


def bos_template(core: tokenizers.Tokenizer) -> processors.TemplateProcessing:
    """A post-processor that puts BOS in front, as Llama's does."""
    return processors.TemplateProcessing(
        single="<s> $A",
        pair="<s> $A <s> $B",
        special_tokens=[("<s>", core.token_to_id("<s>"))],
    )


def save(
    folder: Path,
    core: tokenizers.Tokenizer | None = None,
    *,
    template: bool = False,
    bos: str | None = "<s>",
    **config: Any,
) -> Path:
    """Write tokenizer.json and tokenizer_config.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    core = core or byte_bpe()
    if template:
        core.post_processor = bos_template(core)
    core.save(str(folder / "tokenizer.json"))
    table = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
        **config,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(table))
    return folder
