"""The model `jaxablate` of lm-evaluation-harness: any of its tasks, under any mask.

The harness (0.4.13) has no hook for models of other packages, so importing this module registers
the model. From Python:

    import jaxablate.integrations.lm_eval, lm_eval
    lm_eval.simple_evaluate("jaxablate", {"pretrained": "folder", "mask": "prefix_lm"}, tasks=[...])

From a shell, with the harness' own options:

    python -m jaxablate.integrations.lm_eval run --model jaxablate \
        --model_args pretrained=folder,mask=prefix_lm --tasks piqa

In `key=value` text a comma ends a value, so masks are written without one there: `layers(0-3)`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from jaxablate.core.errors import UserError
from jaxablate.engine.layout import Question
from jaxablate.engine.score import PairScore, Scorer
from jaxablate.evaluation.encode import Ids, truncate
from jaxablate.language_model import LanguageModel, as_mask, load

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "lm_eval":
        raise
    raise UserError(
        "lm-evaluation-harness is not installed: pip install 'jaxablate[eval]'"
    ) from None


# New tokens of the first attempt at a text that may end early; the rest is asked for when needed.
FIRST_TOKENS = 64
GENERATE_ROWS = 8
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Settings of sampling, without an effect on a greedy text.
NO_EFFECT = {"do_sample", "temperature", "top_p", "top_k", "min_p"}


@register_model("jaxablate")
class JaxablateLM(TemplateLM):
    """A checkpoint under a mask, as lm-evaluation-harness sees a model.

    Args:
        pretrained: folder or hub id.
        mask: name or algebra.
        dtype: of weights and activations; scores are float32.
        revision: commit, branch or tag of a hub id.
        mesh: device mesh, such as "fsdp=2".
        max_length: tokens read at most; default: the checkpoint's own limit.
        max_gen_toks: new tokens of a task that does not say.
        add_bos_token: put BOS in front; default: what tokenizer.json does.
        allow_leaky: score masks under which answers see themselves.
        window_policy: what becomes of the model's own sliding window.
        shared: whether continuations share one reading of their context.
        row_length: slots of a packed row.
        batch_size: rows of one program call; 1 and "auto" let the platform decide.
        max_batch_size: not used.
        device: not used, since the harness says cuda:0 unasked; JAX decides where to run.
        kernel: attention kernel.
    """

    def __init__(  # noqa: PLR0913 - the harness gives every setting as an argument
        self,
        pretrained: str,
        *,
        mask: str = "causal",
        dtype: str = "float32",
        revision: str | int | None = None,
        mesh: str | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        add_bos_token: bool | None = None,
        allow_leaky: bool = False,
        window_policy: str = "causal_side",
        shared: str = "auto",
        row_length: int | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,  # noqa: ARG002 - given by the harness
        device: str | None = None,  # noqa: ARG002 - given by the harness
        kernel: str = "auto",
    ):
        super().__init__()
        self.mask = as_mask(mask)
        self.rows_per_batch = _rows(batch_size)
        self.model: LanguageModel = load(
            pretrained,
            dtype=dtype,
            mesh=mesh or None,
            revision=None if revision is None else str(revision),
        )
        self.max_length = max_length or self.model.config.max_position_embeddings
        self.max_gen_toks = max_gen_toks
        self.add_bos = self.model.tokenizer.adds_bos if add_bos_token is None else add_bos_token
        self.settings = {
            "allow_leaky": allow_leaky,
            "window_policy": window_policy,
            "shared": shared,
            "row_length": row_length,
            "rows_per_batch": self.rows_per_batch,
            "kernel": kernel,
        }
        self._info = {"mask": str(self.mask), "source": self.model.source}

    @property
    def eot_token_id(self) -> int:
        """The tokenizer's end of sequence."""
        return _some(self.model.tokenizer.eos_id, "EOS")

    @property
    def prefix_token_id(self) -> int:
        """What a text without context is read after: BOS, else EOS."""
        return _some(self.model.tokenizer.prefix_id, "BOS or EOS")

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer by its content."""
        return self.model.tokenizer.digest

    def get_model_info(self) -> dict[str, Any]:
        """Mask, weights and what scoring did, for the harness' results file."""
        return {"jaxablate": self._info}

    def set_cache_hook(self, cache_hook: Any) -> None:  # noqa: ARG002 - refused whatever it is
        """Refuses the harness' response cache, which does not know model or mask."""
        raise UserError(
            "use_cache stores responses by request alone, without model or mask: another mask "
            "would read this one's answers; run without it"
        )

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        """Refused: chat templates are not read yet."""
        raise UserError("chat templates are not supported by the model 'jaxablate'")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Ids of a text; BOS by `add_bos_token` unless the caller says otherwise."""
        add = self.add_bos if add_special_tokens is None else add_special_tokens and self.add_bos
        return self.model.tokenizer.encode(string, add_bos=add)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = [self._fit(tuple(context), tuple(rest)) for _, context, rest in requests]
        return [(score.sum, score.is_greedy) for score in self._score(pairs)]

    def _fit(self, context: Ids, continuation: Ids) -> tuple[Ids, Ids]:
        if not continuation or len(continuation) > self.max_length:
            raise UserError(
                f"a continuation has {len(continuation)} tokens; 1 to {self.max_length} can be "
                "scored"
            )
        return truncate(context, continuation, self.max_length), continuation

    def _score(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[PairScore]:
        """Scores in the order of the pairs; equal contexts are read once, equal pairs too."""
        by_context: dict[Ids, dict[Ids, None]] = {}
        for context, continuation in pairs:
            by_context.setdefault(context, {})[continuation] = None
        questions = [Question(context, tuple(rest)) for context, rest in by_context.items()]
        scorer = Scorer(self.model, self.mask, **self.settings)
        found: dict[tuple[Ids, Ids], PairScore] = {}
        for _, scores in scorer.stream(scorer.plan(questions)) if questions else ():
            for index, own in scores.items():
                question = questions[index]
                for continuation, score in zip(question.continuations, own, strict=True):
                    found[question.prompt, continuation] = score
        self._info["scoring"] = scorer.description()
        return [found[pair] for pair in pairs]

    def loglikelihood_rolling(
        self,
        requests: Sequence[Any],
        disable_tqdm: bool = False,  # noqa: ARG002 - no bar here
    ) -> list[float]:
        """Log-likelihood of whole texts, in windows that predict every token once.

        A window's context is the prompt of the mask, what it predicts the response: under
        `prefix_lm` the context of a second window is read both ways.
        """
        windows = [
            list(rolling_windows(self.tok_encode(text), self.prefix_token_id, self.max_length))
            for (text,) in (request.args for request in requests)
        ]
        scores = iter(self._score([pair for own in windows for pair in own]))
        return [sum(next(scores).sum for _ in own) for own in windows]

    def generate_until(
        self,
        requests: Sequence[Any],
        disable_tqdm: bool = False,  # noqa: ARG002 - no bar here
    ) -> list[str]:
        """Greedy texts, cut before the first stop sequence."""
        texts = [""] * len(requests)
        settings = [generation_settings(r.args[1], self.max_gen_toks) for r in requests]
        for limit in sorted({limit for _, limit in settings}):
            own = [i for i, (_, size) in enumerate(settings) if size == limit]
            prompts = {i: self._prompt(requests[i].args[0], limit) for i in own}
            self._generate(prompts, {i: settings[i][0] for i in own}, limit, texts)
        return texts

    def _prompt(self, context: str, new_tokens: int) -> list[int]:
        room = self.max_length - new_tokens
        if room < 1:
            raise UserError(f"max_gen_toks {new_tokens} leaves no room in {self.max_length} tokens")
        return (self.tok_encode(context) or [self.prefix_token_id])[-room:]

    def _generate(
        self,
        prompts: dict[int, list[int]],
        stops: dict[int, list[str]],
        limit: int,
        texts: list[str],
    ) -> None:
        """Fill `texts`: first a short attempt, then all tokens for those that did not end."""
        waiting = sorted(prompts, key=lambda i: len(prompts[i]))
        for size in sorted({min(FIRST_TOKENS, limit), limit}):
            unfinished = []
            for start in range(0, len(waiting), self.rows_per_batch or GENERATE_ROWS):
                batch = waiting[start : start + (self.rows_per_batch or GENERATE_ROWS)]
                out = self.model.generate(
                    [prompts[i] for i in batch], mask=self.mask, max_new_tokens=size
                )
                for i, ids in zip(batch, out, strict=True):
                    whole = self.model.tokenizer.decode([int(token) for token in ids])
                    texts[i] = cut(whole, stops[i])
                    if len(ids) >= size and texts[i] == whole:
                        unfinished.append(i)
            waiting = unfinished


def rolling_windows(ids: Sequence[int], prefix: int, max_length: int) -> Iterator[tuple[Ids, Ids]]:
    """(context, predicted) pieces: every token is predicted once, with the longest context.

    >>> list(rolling_windows([1, 2, 3, 4, 5], 0, 4))
    [((0,), (1, 2, 3, 4)), ((1, 2, 3, 4), (5,))]
    """
    for start in range(0, len(ids), max_length):
        end = min(start + max_length, len(ids))
        # The last window is filled up with context; the last token is predicted, never read.
        first = end - max_length - 1
        context = [prefix] if start == 0 else ids[max(first, 0) : start]
        yield tuple(context), tuple(ids[start:end])


def generation_settings(table: dict[str, Any], default_tokens: int) -> tuple[list[str], int]:
    """Stop sequences and new tokens of a request; raises `UserError` for anything but greedy."""
    settings = dict(table)
    until = settings.pop("until", None) or []
    stops = [until] if isinstance(until, str) else list(until)
    lengths = [int(settings.pop(name)) for name in LENGTH_NAMES if name in settings]
    if settings.get("do_sample") or settings.get("temperature"):
        raise UserError("the model 'jaxablate' generates greedily; got do_sample or a temperature")
    unknown = sorted(set(settings) - NO_EFFECT)
    if unknown:
        raise UserError(f"generation setting {unknown[0]!r} is not supported")
    return [stop for stop in stops if stop], lengths[0] if lengths else default_tokens


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop sequence.

    >>> cut("yes. no", ["?", "."])
    'yes'
    """
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _rows(batch_size: int | str) -> int | None:
    if batch_size in (1, "1") or str(batch_size).startswith("auto"):
        return None
    if not str(batch_size).isdigit() or int(batch_size) < 1:
        raise UserError(f"batch_size must be a whole number >= 1 or 'auto', got {batch_size!r}")
    return int(batch_size)


def _some(token: int | None, what: str) -> int:
    if token is None:
        raise UserError(f"the tokenizer has no {what} token")
    return token


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
