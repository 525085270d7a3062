"""A language model whose log-probabilities are hashes: same ids, same numbers, nothing to load."""

import hashlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from jaxablate.core.files import digest
from jaxablate.data.tokenizer import Tokenizer
from jaxablate.engine.score import PairScore
from tests.data import tokens


def hash_score(mask, prompt, continuation):
    """Float32 log-probabilities in (-8, 0) that depend on everything before a token."""
    values = []
    for end in range(len(continuation)):
        text = repr((str(mask), list(prompt), list(continuation[: end + 1])))
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        values.append(-8 * (number + 1) / 2**32)
    return PairScore(np.asarray(values, np.float32), bool(values and values[0] > -0.5))


@dataclass(frozen=True)
class FakeBatch:
    questions: tuple[int, ...]

    @property
    def digest(self):
        return digest(list(self.questions))


class FakeScorer:
    """Answers questions in batches; dies when `allowed` batches were answered."""

    def __init__(self, mask, *, size=7, allowed=None, leaky=False, score=hash_score):
        self.mask, self.size, self.allowed = mask, size, allowed
        self.leaky, self.score = leaky, score
        self.answered = []

    def plan(self, questions):
        self.questions = questions
        starts = range(0, len(questions), self.size)
        return [FakeBatch(tuple(range(s, min(s + self.size, len(questions))))) for s in starts]

    def stream(self, batches):
        for batch in batches:
            if self.allowed is not None and len(self.answered) >= self.allowed:
                raise RuntimeError("the power went out")
            self.answered.append(batch)
            found = {}
            for index in batch.questions:
                question = self.questions[index]
                found[index] = [
                    self.score(self.mask, question.prompt, c) for c in question.continuations
                ]
            yield batch, found

    def description(self):
        leak = {"leaky": self.leaky, "sentence": "made up"}
        return {"mask": str(self.mask), "leak": leak, "platform": "fake"}


def fake_lm(folder, *, max_length=256, weights="0123"):
    """What `evaluate` needs of a language model, with a small tokenizer in `folder`."""
    return SimpleNamespace(
        tokenizer=Tokenizer.load(folder if folder.exists() else tokens.save(folder)),
        config=SimpleNamespace(max_position_embeddings=max_length, num_layers=2, num_heads=2),
        source={"weights": weights, "path": "nowhere"},
    )
