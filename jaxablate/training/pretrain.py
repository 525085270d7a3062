"""Pretraining: a tokenizer, the text as tokens, untrained weights, then the loop of a finetuning.

    <prepared>/
        tokenizer.json ...      trained on the text, or copied
        text/                   the text as tokens, with what was left out and why
        untrained-<6 hex>/      config, tokenizer and weights from the seed: the base checkpoint

A run starts from the untrained checkpoint as a finetuning does from its base, so its checkpoints,
its resuming and what can be done with its folder are the same.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxablate.checkpoints.hf import save_hf
from jaxablate.core import processes
from jaxablate.core.config import operational, relevant
from jaxablate.core.errors import UserError
from jaxablate.core.files import digest
from jaxablate.data.sft_config import SftData
from jaxablate.data.text import load_text, prepare_text
from jaxablate.data.text_config import TextConfig, TokenizerConfig
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.models.shape import ShapeConfig, untrained
from jaxablate.runs.folder import PRETRAIN, clean
from jaxablate.runs.observer import Observer
from jaxablate.training.config import FinetuneConfig
from jaxablate.training.finetune import Outcome, finetune

# An embedding with a multiple of so many rows is split evenly over devices.
ROWS_OF_EMBEDDING = 64


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(FinetuneConfig):
    """A decoder trained from nothing on text; everything else is as in `FinetuneConfig`.

    Attributes:
        name: of the model, for folders.
        shape: its sizes.
        tokenizer: how its tokenizer is made.
        data: the text.
        checkpoint: made by the preparation; not a setting.
        prepared: folder of tokenizer, tokens and untrained weights; empty makes one under `runs`,
            shared by all runs on the same text.
    """

    name: str
    # Another kind of data than a finetuning's, and required: text has no default.
    data: TextConfig  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    checkpoint: str = operational("")
    prepared: str = operational("")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora or self.frozen:
            raise UserError("pretraining trains all weights: lora and frozen are for finetuning")
        if self.data.max_length > self.shape.context:
            raise UserError(
                f"data.max_length ({self.data.max_length}) is beyond shape.context "
                f"({self.shape.context})"
            )

    @property
    def slug(self) -> str:
        """The model's name."""
        return self.name

    @property
    def folder(self) -> Path:
        """Tokenizer, text and untrained weights."""
        if self.prepared:
            return Path(self.prepared)
        name = digest([relevant(self.data), relevant(self.tokenizer)])[:6]
        return Path(self.runs) / "text" / f"{clean(self.name)}-{name}"

    @property
    def untrained(self) -> Path:
        """The checkpoint that training starts from."""
        return self.folder / f"untrained-{digest([relevant(self.shape), self.seed])[:6]}"

    def examples(self, tokenizer: Tokenizer) -> SftData:
        """The text as examples of at most `data.max_length` tokens."""
        del tokenizer
        return load_text(self.folder, self.data)


def pretrain(
    config: PretrainConfig,
    *,
    provenance: dict[str, str] | None = None,
    observers: Sequence[Observer] = (),
) -> Outcome:
    """Prepare what is not prepared, then train; a finished run is only read.

    Raises:
        UserError: for anything wrong with config, text or folders.
        Stopped: when asked to stop (SIGTERM, Ctrl-C); the state is saved.
        SaveError: when a checkpoint could not be written.
    """
    if processes.is_first():
        try:
            prepare(config)
        except BaseException:
            processes.agree(0)
            raise
        processes.agree(1)
    elif processes.agree(0) == 0:
        raise UserError(f"{config.folder}: preparing it failed on process 0; its message says why")
    placed = dataclasses.replace(config, checkpoint=str(config.untrained))
    return finetune(placed, provenance=provenance, observers=observers, kind=PRETRAIN)


def prepare(config: PretrainConfig) -> None:
    """Tokenizer, tokens and untrained weights, each made unless it is there."""
    folder = config.folder
    prepare_text(config.data, config.tokenizer, folder)
    if (config.untrained / "config.json").exists():
        return
    tokenizer = Tokenizer.load(folder)
    if tokenizer.eos_id is None:
        raise UserError(f"{folder}: the tokenizer has no end-of-sequence token")
    rows = -(-tokenizer.vocab_size // ROWS_OF_EMBEDDING) * ROWS_OF_EMBEDDING
    shape = config.shape.decoder(vocab_size=rows, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
    decoder = untrained(shape, seed=config.seed)
    save_hf(decoder, shape, config.untrained, tokenizer_files_from=folder)
