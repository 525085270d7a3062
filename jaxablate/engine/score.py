"""Log-likelihood of continuations after prompts under a mask: the prompt is read once.

The scoring rule is the mask itself with declared roles (prompt, then response one token at a
time). Before anything runs, the leak guard decides whether an answer could see itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxablate.core.errors import UserError
from jaxablate.engine import forward
from jaxablate.engine.batches import BatchSizes, ScoreBatch, plan_batches
from jaxablate.engine.guard import LeakVerdict, check_pairs, pair_shapes, pair_slots
from jaxablate.engine.layout import BatchArrays, Question, fill
from jaxablate.engine.plan import (
    DEFAULT_WINDOW_POLICY,
    MaskPlan,
    MaskStructure,
    kernel_choices,
    layer_masks,
    plan_mask,
)
from jaxablate.masks.algebra import Mask
from jaxablate.masks.lower import prompt_sees_response

# Row length that shared questions are packed into, and slots of one batch, by platform.
PACKED_LENGTH = {"gpu": 512, "tpu": 512, "cpu": 256}
BATCH_SLOTS = {"gpu": 49152, "tpu": 49152, "cpu": 4096}
IN_FLIGHT = 2


class PairScore(NamedTuple):
    """Log-probability of each token of one continuation (float32), and whether all are argmax."""

    token_logprobs: np.ndarray
    is_greedy: bool

    @property
    def sum(self) -> float:
        """Log-likelihood of the continuation, summed in float64."""
        return float(np.sum(self.token_logprobs, dtype=np.float64))

    @property
    def num_tokens(self) -> int:
        """Tokens that were scored."""
        return len(self.token_logprobs)


class Scorer:
    """Scores questions with a language model under one mask.

    Args:
        lm: what `jaxablate.load` returns.
        mask: who may attend to whom.
        allow_leaky: score even when an answer can see itself; stamped into `description()`.
        row_length: slots of a packed row; default by platform.
        rows_per_batch: rows of one program call; default by platform.
        shared: "auto" reads a prompt once for all its choices where that is exact; "never" gives
            every pair a row of its own.
        window_policy: what becomes of the model's own sliding window (`masks.window`).

    Raises:
        UserError: for a setting outside its range.
        LeakError: when an answer could see itself and `allow_leaky` is off (on `plan`).
    """

    def __init__(
        self,
        lm: Any,
        mask: Mask,
        *,
        allow_leaky: bool = False,
        row_length: int | None = None,
        rows_per_batch: int | None = None,
        shared: str = "auto",
        window_policy: str = DEFAULT_WINDOW_POLICY,
        kernel: str = "auto",
    ):
        platform = jax.default_backend()
        if shared not in ("auto", "never"):
            raise UserError(f"shared must be 'auto' or 'never', got {shared!r}")
        for name, value in (("row_length", row_length), ("rows_per_batch", rows_per_batch)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be >= 1, got {value}")
        self.lm, self.mask = lm, mask
        self.allow_leaky, self.shared = allow_leaky, shared
        self.policy, self.kernel = window_policy, kernel
        self.sizes = BatchSizes(
            row_length=row_length or PACKED_LENGTH.get(platform, 256),
            batch_slots=BATCH_SLOTS.get(platform, 4096),
            rows_per_batch=rows_per_batch or 0,
        )
        self.questions: Sequence[Question] = ()
        self.batches: list[ScoreBatch] = []
        self.verdict: LeakVerdict | None = None
        self.sharing = "not planned"

    def plan(self, questions: Sequence[Question]) -> list[ScoreBatch]:
        """Batches that answer all questions; depends on the questions and settings alone."""
        _check_questions(questions, self.lm.config.vocab_size)
        self.questions = questions
        masks = layer_masks(self.mask, self.lm.config, self.policy)
        self.verdict = check_pairs(
            masks,
            questions,
            num_heads=self.lm.config.num_heads,
            allow_leaky=self.allow_leaky,
        )
        self.sharing = self._sharing()
        self.batches = plan_batches(
            questions,
            self.sizes,
            shared=self.sharing == "shared",
            keep_last=self.verdict.leaky,
        )
        return self.batches

    def _sharing(self) -> str:
        if self.shared == "never":
            return "apart: asked for"
        slots = pair_slots(pair_shapes(self.questions))
        structure = MaskStructure.of(self.mask, self.lm.config, self.policy)
        if any(prompt_sees_response(member, slots).any() for member in structure.members):
            return "apart: a prompt sees its continuation under this mask"
        return "shared"

    def stream(
        self, batches: Iterable[ScoreBatch]
    ) -> Iterator[tuple[ScoreBatch, dict[int, list[PairScore]]]]:
        """Scores batches in order; the next ones are prepared while the device works."""
        waiting: list[tuple[ScoreBatch, BatchArrays, Any]] = []
        for batch in batches:
            waiting.append((batch, *self._start(batch)))
            if len(waiting) > IN_FLIGHT:
                yield self._finish(*waiting.pop(0))
        for started in waiting:
            yield self._finish(*started)

    def _lay_out(self, batch: ScoreBatch) -> tuple[BatchArrays, MaskPlan]:
        arrays = fill(
            batch.rows,
            self.questions,
            num_rows=batch.num_rows,
            num_targets=batch.num_targets,
            keep_last=self.verdict is not None and self.verdict.leaky,
        )
        slots, config = arrays.slots, self.lm.config
        return arrays, plan_mask(
            self.mask, slots, slots, config, policy=self.policy, kernel=self.kernel
        )

    def _start(self, batch: ScoreBatch) -> tuple[BatchArrays, Any]:
        lm = self.lm
        arrays, plan = self._lay_out(batch)
        tokens, position, plan = lm.place_rows((arrays.tokens, arrays.slots.position, plan))
        with lm.precision():
            result = forward.target_logprobs(
                lm.graph, lm.params, tokens, position, plan,
                jnp.asarray(arrays.index), jnp.asarray(arrays.targets),
            )  # fmt: skip
        return arrays, result

    def _finish(
        self, batch: ScoreBatch, arrays: BatchArrays, result: Any
    ) -> tuple[ScoreBatch, dict[int, list[PairScore]]]:
        logprobs, greedy = (np.asarray(x)[: len(arrays.scored)] for x in result)
        if not np.isfinite(logprobs).all():
            question = arrays.scored[int(np.argmin(np.isfinite(logprobs)))][0]
            raise UserError(
                f"the log-probability of a token of question {question} is not finite: "
                f"the weights or the dtype ({self.lm.dtype}) are at fault, not the mask"
            )
        scores: dict[int, dict[int, PairScore]] = {}
        firsts = [i for i, (_, _, token) in enumerate(arrays.scored) if token == 0]
        for start, stop in zip(firsts, [*firsts[1:], len(arrays.scored)], strict=True):
            question, choice, _ = arrays.scored[start]
            pair = PairScore(logprobs[start:stop].copy(), bool(greedy[start:stop].all()))
            scores.setdefault(question, {})[choice] = pair
        return batch, {q: [by[c] for c in sorted(by)] for q, by in sorted(scores.items())}

    def description(self) -> dict[str, Any]:
        """For the manifest: kernels with reasons by row length, sharing, leak verdict, device.

        A function of the plan alone, so a resumed run says the same as one left alone.
        """
        firsts = {batch.rows.length: batch for batch in reversed(self.batches)}
        return {
            "mask": str(self.mask),
            "window_policy": self.policy,
            "leak": self.verdict.to_json() if self.verdict else None,
            "allow_leaky": self.allow_leaky,
            "prompt": self.sharing,
            "kernels": {str(length): self._kernels(firsts[length]) for length in sorted(firsts)},
            "platform": jax.default_backend(),
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        }

    def _kernels(self, batch: ScoreBatch) -> list[dict[str, Any]]:
        _, plan = self._lay_out(batch)
        size = {"batch": batch.num_rows, "length": batch.rows.length}
        return kernel_choices(plan, self.lm.config, self.lm.dtype, **size)


def _check_questions(questions: Sequence[Question], vocab_size: int) -> None:
    if not questions:
        raise UserError("no question to score: got an empty list")
    for index, question in enumerate(questions):
        if not question.prompt:
            raise UserError(
                f"question {index} has an empty prompt: the first token of a continuation needs "
                "a token before it (give the BOS token as the prompt)"
            )
        if not question.continuations or not all(question.continuations):
            raise UserError(f"question {index} has an empty continuation: nothing to score")
        highest = max(max(question.prompt), *(max(c) for c in question.continuations))
        if highest >= vocab_size or min(question.prompt) < 0:
            raise UserError(
                f"question {index} has token id {highest}, the vocabulary has {vocab_size}"
            )
