"""Thirty steps of a tiny decoder equal the same steps in PyTorch, loss by loss."""

import numpy as np
import pytest

from jaxablate.data.batch import Batch, Example, collate
from jaxablate.masks.parse import parse
from jaxablate.models.layout import weights
from jaxablate.training.inputs import Preparation
from jaxablate.training.optimiser import OptimiserConfig, make
from jaxablate.training.schedules import Schedule
from jaxablate.training.state import create
from jaxablate.training.step import StepConfig, make_train_step
from tests.models.reference import ours
from tests.tiny import tiny_hf

STEPS, ROWS, WIDTH, WARMUP = 30, 4, 24, 3
PEAK, DECAY, BETAS, CLIP = 2e-3, 0.1, (0.9, 0.95), 1.0


def batches(vocab: int) -> list[Batch]:
    random = np.random.default_rng(0)
    made = []
    for _ in range(STEPS):
        rows = []
        for _ in range(ROWS):
            prompt, response = random.integers(1, WIDTH // 2, 2)
            ids = random.integers(3, vocab, prompt + response).astype(np.int32)
            rows.append([Example("", ids, int(prompt))])
        made.append(collate(rows, WIDTH))
    return made


def torch_losses(model, data: list[Batch]) -> list[float]:
    """A plain loop: explicit 4D mask, cross entropy over responses, clipping, AdamW, cosine."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    matrices = [p for n, p in model.named_parameters() if p.ndim > 1]
    vectors = [p for n, p in model.named_parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, eps=1e-8)
    schedule = get_cosine_schedule_with_warmup(optimiser, WARMUP, STEPS)
    index = np.arange(WIDTH)
    losses = []
    for batch in data:
        length = (batch.slots.segment > 0).sum(axis=1)[:, None, None]
        prompt = (batch.slots.part > 0).sum(axis=1)[:, None, None]
        query, key = index[None, :, None], index[None, None, :]
        sees = (key <= query) | ((query < prompt) & (key < prompt))
        sees = (sees & (key < length)) | (key == query)  # a padded row sees itself: no NaN
        bias = np.where(sees, 0.0, np.finfo(np.float32).min).astype(np.float32)[:, None]
        logits = model(
            input_ids=torch.tensor(batch.tokens).long(),
            attention_mask=torch.tensor(bias),
            position_ids=torch.arange(WIDTH)[None].expand(ROWS, -1),
            use_cache=False,
        ).logits
        counted = torch.tensor(batch.loss_mask)
        targets = torch.tensor(batch.targets).long()
        loss = torch.nn.functional.cross_entropy(logits[counted], targets[counted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


def our_losses(decoder, data: list[Batch]) -> list[float]:
    config = decoder.config
    optimiser = make(OptimiserConfig(weight_decay=DECAY, b1=BETAS[0], b2=BETAS[1]))
    state = create(
        weights(decoder), {}, optimiser,
        seed=0, master_dtype="float32", compute_dtype="float32",
    )  # fmt: skip
    step = make_train_step(
        config,
        optimiser=optimiser,
        schedule=Schedule(kind="cosine", peak=PEAK, total_steps=STEPS, warmup_steps=WARMUP),
        settings=StepConfig(compute_dtype="float32", clip_norm=CLIP),
    )
    prepare = Preparation(mask=parse("prefix_lm"), config=config)
    losses = []
    for batch in data:
        state, metrics = step(state, prepare(batch))
        losses.append(float(metrics.loss.mean))
    return losses


@pytest.mark.parametrize("family", ["qwen3", pytest.param("llama", marks=pytest.mark.slow)])
def test_thirty_steps_equal_torch_within_1e_5_at_every_step(family):
    _, model = tiny_hf(family, num_hidden_layers=2)
    decoder = ours(model, model.config.to_dict())
    data = batches(decoder.config.vocab_size)
    got, wanted = our_losses(decoder, data), torch_losses(model, data)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert len(set(np.round(wanted, 4))) == STEPS
