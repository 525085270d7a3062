"""The Python surface: load a checkpoint; logits, hidden states, scores and text under a mask."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jaxablate.checkpoints.hf import save_hf
from jaxablate.checkpoints.hub import resolve
from jaxablate.checkpoints.open import open_checkpoint, tokenizer_folder
from jaxablate.core.dtypes import parse_dtype
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh
from jaxablate.core.slots import rows
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.engine import forward
from jaxablate.engine import generate as generation
from jaxablate.engine.layout import Question
from jaxablate.engine.plan import DEFAULT_WINDOW_POLICY, plan_mask
from jaxablate.engine.score import PairScore, Scorer
from jaxablate.masks.algebra import Mask
from jaxablate.masks.parse import parse
from jaxablate.models.config import DecoderConfig
from jaxablate.models.decoder import Decoder

Text = str | Sequence[int]


def load(
    checkpoint: str | Path,
    dtype: str = "float32",
    mesh: str | Mesh | None = None,
    *,
    revision: str | None = None,
    layout: str = "loop",
) -> "LanguageModel":
    """A language model from a Hugging Face folder, a hub id, a converted folder, or a finetuning.

    Args:
        checkpoint: folder (of a run: the checkpoint that the run chose) or hub id.
        dtype: type of weights and activations (float32, bfloat16, float16).
        mesh: device mesh, or text such as "fsdp=2,tensor=2"; None is one device.
        revision: commit, branch or tag of a hub id.
        layout: "loop" (separate arrays per layer, faster steps) or "scan" (faster compilation).

    Raises:
        UserError: for anything wrong with the checkpoint; it names the file or tensor.
    """
    name = parse_dtype(dtype)
    if isinstance(mesh, str):
        mesh = make_mesh(parse_mesh(mesh))
    folder = resolve(checkpoint, revision=revision)
    decoder, config, source = open_checkpoint(folder, dtype=name, mesh=mesh, layout=layout)
    folder = tokenizer_folder(folder, source)
    return LanguageModel(decoder, config, folder=folder, source=source, mesh=mesh)


class LanguageModel:
    """A decoder with its tokenizer. Every method takes a mask by name, algebra or `Mask`.

    Attributes:
        config: the decoder's shape.
        params: its weights, an `nnx.State`.
        source: where the weights came from: path, revision, digest.
    """

    def __init__(
        self,
        decoder: Decoder,
        config: DecoderConfig,
        *,
        folder: Path | None = None,
        source: dict[str, Any] | None = None,
        mesh: Mesh | None = None,
    ):
        self.config, self.folder, self.mesh = config, folder, mesh
        self.source = source or {}
        self.graph, self.params = nnx.split(decoder)
        self.dtype = jax.tree.leaves(self.params)[0].dtype

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer; raises `UserError` when its folder has none."""
        if self.folder is None:
            raise UserError("this language model was made without a folder, so has no tokenizer")
        return Tokenizer.load(self.folder)

    def logits(
        self,
        tokens: Any,
        lengths: Sequence[int] | None = None,
        mask: str | Mask = "causal",
        prompt_lengths: Sequence[int] | None = None,
        *,
        window_policy: str = DEFAULT_WINDOW_POLICY,
        kernel: str = "auto",
    ) -> Float[Array, "B T V"]:
        """Float32 logits [B, T, V] of right-padded tokens [B, T] under a mask.

        Without `lengths` every column is real. Without `prompt_lengths` the whole row is prompt,
        as in a prefill. Logits of padded positions mean nothing.
        """
        inputs = self._inputs(tokens, lengths, mask, prompt_lengths, window_policy, kernel)
        with self.precision():
            return forward.logits(self.graph, self.params, *inputs)

    def hidden_states(
        self,
        tokens: Any,
        lengths: Sequence[int] | None = None,
        mask: str | Mask = "causal",
        prompt_lengths: Sequence[int] | None = None,
        *,
        window_policy: str = DEFAULT_WINDOW_POLICY,
        kernel: str = "auto",
    ) -> Float[Array, "L2 B T D"]:
        """Embedding, output of each layer, output of the final norm: [L + 2, B, T, D]."""
        inputs = self._inputs(tokens, lengths, mask, prompt_lengths, window_policy, kernel)
        with self.precision():
            return forward.hidden_states(self.graph, self.params, *inputs)

    def _inputs(
        self,
        tokens: Any,
        lengths: Sequence[int] | None,
        mask: str | Mask,
        prompt_lengths: Sequence[int] | None,
        policy: str,
        kernel: str,
    ) -> tuple:
        ids = np.asarray(tokens)
        _check_tokens(ids, lengths, prompt_lengths, self.config.vocab_size)
        batch, width = ids.shape
        slots = rows([width] * batch if lengths is None else lengths, width, prompt_lengths)
        plan = plan_mask(as_mask(mask), slots, slots, self.config, policy=policy, kernel=kernel)
        return self.place_rows((ids.astype(np.int32), slots.position, plan))

    def precision(self) -> AbstractContextManager[Any]:
        """The context to run programs in: float32 means float32, where a GPU would take TF32."""
        exact = self.dtype == jnp.float32
        return jax.default_matmul_precision("highest") if exact else nullcontext()

    def place_rows(self, tree: Any) -> Any:
        """Arrays of rows onto the mesh, split by row over data and fsdp where that divides."""
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, tree)
        mesh = self.mesh
        shards = mesh.shape["data"] * mesh.shape["fsdp"]

        def place(array: Any) -> Array:
            split = ("data", "fsdp") if array.shape[0] % shards == 0 else None
            spec = PartitionSpec(split, *(None for _ in array.shape[1:]))
            return jax.device_put(array, NamedSharding(mesh, spec))

        return jax.tree.map(place, tree)

    def score(
        self,
        pairs: Sequence[tuple[Text, Text]],
        mask: str | Mask = "causal",
        allow_leaky: bool = False,
        *,
        add_bos: bool | None = None,
        window_policy: str = DEFAULT_WINDOW_POLICY,
    ) -> list[PairScore]:
        """Log-likelihood of each continuation after its prompt, under the mask.

        Texts are tokenised joined and cut by character offset, with BOS in front where `add_bos`
        says so (None: where the tokenizer itself adds it); token ids are taken as they are.
        Pairs with equal prompts next to each other share one reading of the prompt.

        Raises:
            LeakError: when an answer could see itself under the mask and `allow_leaky` is off.
        """
        ids = [self._pair_ids(prompt, continuation, add_bos) for prompt, continuation in pairs]
        questions: list[Question] = []
        for prompt, continuation in ids:
            if questions and questions[-1].prompt == prompt:
                more = (*questions[-1].continuations, continuation)
                questions[-1] = Question(prompt, more)
            else:
                questions.append(Question(prompt, (continuation,)))
        scorer = Scorer(self, as_mask(mask), allow_leaky=allow_leaky, window_policy=window_policy)
        found: dict[int, list[PairScore]] = {}
        for _, scores in scorer.stream(scorer.plan(questions)):
            found.update(scores)
        return [score for index in range(len(questions)) for score in found[index]]

    def _pair_ids(
        self, prompt: Text, continuation: Text, add_bos: bool | None
    ) -> tuple[tuple[int, ...], ...]:
        if isinstance(prompt, str) and isinstance(continuation, str):
            bos = self._adds_bos(add_bos)
            return self.tokenizer.encode_pair(prompt, continuation, add_bos=bos)
        if isinstance(prompt, str) or isinstance(continuation, str):
            raise UserError("a pair is two texts or two lists of token ids, got one of each")
        return tuple(map(int, prompt)), tuple(map(int, continuation))

    def generate(
        self,
        prompts: Sequence[Text],
        mask: str | Mask = "causal",
        prompt_lengths: Sequence[int] | None = None,
        max_new_tokens: int = 64,
        stop_at_eos: bool = True,
        *,
        chunk: int | None = None,
        add_bos: bool | None = None,
        window_policy: str = DEFAULT_WINDOW_POLICY,
    ) -> list[str] | list[list[int]]:
        """Greedy continuations: prefill under the mask, then causal decoding.

        Text in, text out, BOS as in `score`; token ids in, token ids out (without the stop token).
        """
        if isinstance(prompts, str):
            raise UserError("prompts is a list; got one text")
        texts = [isinstance(prompt, str) for prompt in prompts]
        if any(texts) and not all(texts):
            raise UserError("prompts are all texts or all lists of token ids, got both")
        ids = [self._prompt_ids(prompt, add_bos) for prompt in prompts]
        out = generation.generate(
            self,
            ids,
            as_mask(mask),
            prompt_lengths=prompt_lengths,
            max_new_tokens=max_new_tokens,
            eos_ids=self.config.eos_ids if stop_at_eos else (),
            chunk=chunk,
            policy=window_policy,
        )
        return [self.tokenizer.decode(row) for row in out] if all(texts) else out

    def _prompt_ids(self, prompt: Text, add_bos: bool | None) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, add_bos=self._adds_bos(add_bos))
        return list(prompt)

    def _adds_bos(self, asked: bool | None) -> bool:
        return self.tokenizer.adds_bos if asked is None else asked

    def save_hf(self, folder: str | Path) -> None:
        """Write a Hugging Face folder that transformers loads; the folder must be new or empty."""
        decoder = nnx.merge(self.graph, self.params)
        save_hf(decoder, self.config, folder, tokenizer_files_from=self.folder)


def as_mask(mask: str | Mask) -> Mask:
    """A mask from its name or algebra, or as it is."""
    return parse(mask) if isinstance(mask, str) else mask


def _check_tokens(
    ids: np.ndarray,
    lengths: Sequence[int] | None,
    prompt_lengths: Sequence[int] | None,
    vocab_size: int,
) -> None:
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or not ids.size:
        raise UserError(
            f"tokens must be integers [batch, length], got {ids.dtype} {list(ids.shape)}"
        )
    if ids.min() < 0 or ids.max() >= vocab_size:
        worst = int(ids.max() if ids.max() >= vocab_size else ids.min())
        raise UserError(f"token id {worst} is outside the vocabulary of {vocab_size}")
    for name, values in (("lengths", lengths), ("prompt_lengths", prompt_lengths)):
        if values is None:
            continue
        given = np.asarray(values)
        if given.shape != ids.shape[:1]:
            raise UserError(f"{name} needs one entry a row ({len(ids)}), got {list(given.shape)}")
        if given.min() < 0 or given.max() > ids.shape[1]:
            raise UserError(f"{name} must be in 0..{ids.shape[1]}, got {given.tolist()}")
