"""The measured twin of the leak guard: change later tokens, look at earlier logits.

Static analysis sees the mask; this sees the weights, the kernels and the cache that really run.
"""

from typing import Any

import jax
import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.engine.generate import decode_logprobs
from jaxablate.engine.guard import check_pairs
from jaxablate.engine.layout import Question
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY, layer_masks
from jaxablate.masks.algebra import Mask


def measure(
    lm: Any,
    mask: Mask,
    *,
    num_rows: int = 4,
    prompt_length: int = 12,
    response_length: int = 8,
    seed: int = 0,
    policy: str = DEFAULT_WINDOW_POLICY,
) -> dict[str, Any]:
    """What the mask lets through, measured on random token ids with the compiled forward pass.

    Returns:
        JSON values by name.

        * static: the guard's verdict for the same shape.
        * future_change: largest change of a scored position's logits when its own target and all
          later tokens are replaced. 0.0 means that no bit moved.
        * leaks: future_change > 0.
        * prompt_change: largest change at the first prompt position when the last prompt token is
          replaced; 0.0 under a causal prompt, > 0 when the prompt is bidirectional.
        * teacher_forced_loss, decode_loss: mean negative log-likelihood in nats per token of the
          same responses, in one pass and through the cache. Equal unless the mask leaks.

    Raises:
        UserError: for sizes below 1, or a prompt below 2 tokens.
    """
    if min(num_rows, response_length) < 1 or prompt_length < 2:
        raise UserError(
            "the probe needs rows >= 1, response_length >= 1 and prompt_length >= 2, got "
            f"{num_rows}, {response_length} and {prompt_length}"
        )
    random = np.random.default_rng(seed)
    width = prompt_length + response_length
    tokens = random.integers(0, lm.config.vocab_size, (num_rows, width))
    other = (tokens + random.integers(1, lm.config.vocab_size, tokens.shape)) % lm.config.vocab_size
    base = _logits(lm, tokens, mask, prompt_length, policy)
    future = _future_change(lm, mask, tokens, other, base, prompt_length, policy)
    teacher = _teacher_forced(base, tokens, prompt_length)
    decode = decode_logprobs(lm, tokens, [prompt_length] * num_rows, mask, policy=policy)
    masks = layer_masks(mask, lm.config, policy)
    row = tokens[0].tolist()
    question = Question(tuple(row[:prompt_length]), (tuple(row[prompt_length:]),))
    return {
        "mask": str(mask),
        "platform": jax.default_backend(),
        "dtype": str(lm.dtype),
        "rows": num_rows,
        "prompt_length": prompt_length,
        "response_length": response_length,
        "seed": seed,
        "static": check_pairs(
            masks, [question], num_heads=lm.config.num_heads, allow_leaky=True
        ).to_json(),
        "future_change": future,
        "leaks": future > 0,
        "prompt_change": _prompt_change(lm, mask, tokens, other, prompt_length, policy),
        "teacher_forced_loss": -float(teacher.mean()),
        "decode_loss": -float(decode.mean()),
    }


def _logits(lm: Any, tokens: np.ndarray, mask: Mask, prompt: int, policy: str) -> np.ndarray:
    prompts = [prompt] * len(tokens)
    return np.asarray(lm.logits(tokens, mask=mask, prompt_lengths=prompts, window_policy=policy))


def _future_change(
    lm: Any,
    mask: Mask,
    tokens: np.ndarray,
    other: np.ndarray,
    base: np.ndarray,
    prompt: int,
    policy: str,
) -> float:
    """Replace every token from a position's target on, for each scored position in turn."""
    largest = 0.0
    for position in range(prompt - 1, tokens.shape[1] - 1):
        changed = tokens.copy()
        changed[:, position + 1 :] = other[:, position + 1 :]
        logits = _logits(lm, changed, mask, prompt, policy)
        largest = max(largest, float(np.abs(logits[:, position] - base[:, position]).max()))
    return largest


def _prompt_change(
    lm: Any, mask: Mask, tokens: np.ndarray, other: np.ndarray, prompt: int, policy: str
) -> float:
    """Replace the last prompt token and look at the prompt's first position, prompt alone."""
    alone, changed = tokens[:, :prompt], tokens[:, :prompt].copy()
    changed[:, -1] = other[:, prompt - 1]
    before, after = (_logits(lm, x, mask, prompt, policy)[:, 0] for x in (alone, changed))
    return float(np.abs(before - after).max())


def _teacher_forced(base: np.ndarray, tokens: np.ndarray, prompt: int) -> np.ndarray:
    scores = base[:, prompt - 1 : -1].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    logprobs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return np.take_along_axis(logprobs, tokens[:, prompt:, None], axis=-1)
