"""The loss of responses as decoding sees them: one token at a time, nothing behind it in sight.

Under an honest mask it equals the loss of one pass over the whole row. Under a leaky one the loss
of one pass is lower: what it measures is not there when the model has to write.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from jaxablate.data.batch import Batch, Example, collate
from jaxablate.engine.generate import decode_logprobs
from jaxablate.language_model import LanguageModel
from jaxablate.training.inputs import Preparation
from jaxablate.training.state import TrainState
from jaxablate.training.step import TrainStep

# Tokens of a response that are read one by one.
DECODE_TOKENS = 48


def decode_loss(
    step: TrainStep, state: TrainState, prepare: Preparation, examples: Sequence[Example]
) -> dict[str, float | int]:
    """Nats per token of the starts of some responses, under the mask of `prepare`.

    `decode_loss` is as decoding sees them, `teacher_loss` that of one pass over whole rows; both
    are of the same `decode_targets` tokens.
    """
    short = [_cut(example) for example in examples]
    tokens, prompts, lengths = _columns(short)
    lm = LanguageModel(step.decoder(state), prepare.config, mesh=prepare.mesh)
    policy = prepare.window_policy
    starts = [example.part_starts for example in short]
    found = decode_logprobs(
        lm, tokens, prompts.tolist(), prepare.mask, part_starts=starts, policy=policy
    )
    real = np.arange(found.shape[1])[None] < lengths[:, None]
    inputs = replace(prepare, microbatches=1)(_rows(short, prepare.num_shards))
    term = step.loss(state, inputs)
    return {
        "decode_loss": -float(found[real].astype(np.float64).mean()),
        "teacher_loss": float(term.sum) / float(term.count),
        "decode_targets": int(real.sum()),
    }


def _cut(example: Example) -> Example:
    return example._replace(tokens=example.tokens[: example.prompt_length + DECODE_TOKENS])


def _columns(
    examples: Sequence[Example],
) -> tuple[Int[np.ndarray, "B T"], Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """Prompts, padded to the longest, then responses; the lengths of both."""
    prompts = np.array([example.prompt_length for example in examples], np.int32)
    lengths = np.array([len(example.tokens) for example in examples], np.int32) - prompts
    width = int(prompts.max())
    tokens = np.zeros((len(examples), width + int(lengths.max())), np.int32)
    for row, (example, prompt) in enumerate(zip(examples, prompts.tolist(), strict=True)):
        response = example.tokens[prompt:]
        tokens[row, :prompt] = example.tokens[:prompt]
        tokens[row, width : width + len(response)] = response
    return tokens, prompts, lengths


def _rows(examples: Sequence[Example], multiple: int) -> Batch:
    """One example a row; empty rows make their number a multiple."""
    width = max(len(example.tokens) for example in examples)
    rows = [[example] for example in examples] + [[] for _ in range(-len(examples) % multiple)]
    return collate(rows, -(-width // 64) * 64)
