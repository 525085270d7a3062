"""A tiny random checkpoint with a tokenizer that fits it."""

from pathlib import Path

from tests.data import tokens
from tests.tiny import save_tiny


def save_checkpoint(folder: Path, *, family: str = "llama", max_length: int = 64) -> Path:
    """Two layers, a byte-level tokenizer that adds BOS."""
    core = tokens.byte_bpe()
    sizes = {"vocab_size": core.get_vocab_size() + 3, "max_position_embeddings": max_length}
    save_tiny(family, folder, num_hidden_layers=2, **sizes)
    return tokens.save(folder, core, template=True)
