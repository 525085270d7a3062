"""Pretraining quality: held-out loss against a Llama of transformers on the very same batches.

    jaxablate pretrain CONFIG --out runs/ours --steps 500 --set use=last
    python benchmarks/pretrain.py runs/ours

Reads the finished run's config, its tokens, and its order of batches, and trains a
LlamaForCausalLM of the same sizes in PyTorch on them: AdamW with the same schedule, clipping and
decay of matrices alone, float32 weights with bfloat16 autocast, documents kept apart by an explicit
mask and by positions that begin anew. Prints both held-out losses (nats a token, float64 sums) with
the standard error of their difference over batches, and both perplexities, as one line of JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).parent.parent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a pretraining run that is done")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument(
        "--same-start", action="store_true", help="begin with the run's own untrained weights"
    )
    parser.add_argument(
        "--deviation",
        type=float,
        default=0.02,
        help="of fresh weights (default: transformers' own)",
    )
    arguments = parser.parse_args()
    config = read_config(arguments.run)
    data = examples(config)
    model = make_llama(config, arguments.deviation, same_start=arguments.same_start)
    theirs, seconds, count = train_llama(model, config, data, compiled=arguments.compile)
    ours = our_losses(arguments.run, config, data)
    print(json.dumps(compare(ours, theirs) | {"llama_seconds": seconds, "llama_parameters": count}))


def read_config(run: Path):
    from jaxablate.core.config import build
    from jaxablate.core.settings import Settings
    from jaxablate.runs.folder import read_manifest
    from jaxablate.training.pretrain import PretrainConfig

    manifest = read_manifest(run)
    values = dict(manifest["config"])
    untrained = Path(manifest["source"]["path"])
    return build(PretrainConfig, Settings({**values, "prepared": str(untrained.parent)}, {}))


def examples(config):
    from jaxablate.data.text import load_text

    return load_text(config.folder, config.data)


def train_batches(config, data, steps: int):
    from jaxablate.data.pipeline import Pipeline

    pipeline = Pipeline(
        data.train, width=config.data.max_length, rows=config.rows, seed=config.seed,
        packed=config.data.packed,
    )  # fmt: skip
    return pipeline.prefetch(0, steps, threads=8, ahead=8)


def held_out_batches(config, data):
    from jaxablate.data.pipeline import in_order

    return in_order(
        data.held_out, width=config.data.max_length, rows=config.rows, packed=config.data.packed
    )


def our_losses(run: Path, config, data) -> list[tuple[float, float]]:
    """(sum, count) of each held-out batch, by the run's own step."""
    import dataclasses

    from jaxablate.checkpoints.steps import StepStore
    from jaxablate.training.keeper import Keeper
    from jaxablate.training.setup import set_up

    setup = set_up(dataclasses.replace(config, checkpoint=str(config.untrained)))
    store = StepStore(run / "checkpoints", is_writer=False)
    state, _ = Keeper(store, config.save, {}).restore(setup.state)
    (prepare,) = setup.held_out.prepare.values()
    terms = [setup.step.loss(state, prepare(batch)) for batch in held_out_batches(config, data)]
    return [(float(term.sum), float(term.count)) for term in terms]


def make_llama(config, deviation: float, *, same_start: bool):
    """A LlamaForCausalLM of the run's sizes: fresh, or with the weights that the run began with."""
    import torch
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(config.seed)
    shape, told = config.shape, json.loads((config.untrained / "config.json").read_text())
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=told["vocab_size"], hidden_size=shape.hidden,
            intermediate_size=shape.mlp, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim, max_position_embeddings=shape.context,
            rms_norm_eps=told["rms_norm_eps"], tie_word_embeddings=shape.tied,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            initializer_range=deviation, attn_implementation="sdpa",
        )
    )  # fmt: skip
    if same_start:
        weights = {
            k: v for f in config.untrained.glob("*.safetensors") for k, v in load_file(f).items()
        }
        missing = model.load_state_dict(weights, strict=False).missing_keys
        assert set(missing) <= {"lm_head.weight"}, missing
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def train_llama(
    model, config, data, *, compiled: bool
) -> tuple[list[tuple[float, float]], float, int]:
    """(sum, count) of each held-out batch after training, seconds of training, parameters."""
    import torch

    device = str(next(model.parameters()).device.type)
    run = torch.compile(model) if compiled else model
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.optimiser.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(
        groups, lr=1.0, betas=(config.optimiser.b1, config.optimiser.b2), eps=config.optimiser.eps
    )
    rate = config.schedule.over(config.steps)
    began = time.monotonic()
    for step, batch in enumerate(train_batches(config, data, config.steps)):
        for group in optimiser.param_groups:
            group["lr"] = float(rate(step))
        total, count = torch_loss(run, batch, device)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.step.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 50 == 0:
            print(
                step,
                float(total.detach() / count),
                round(time.monotonic() - began, 1),
                file=sys.stderr,
            )
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.monotonic() - began
    with torch.no_grad():
        found = [torch_loss(run, batch, device) for batch in held_out_batches(config, data)]
    count = sum(p.numel() for p in model.parameters())
    return [(float(total), float(n)) for total, n in found], seconds, count


def torch_loss(model, batch, device: str):
    """Sum of the loss over supervised tokens, and their number."""
    import torch

    def put(array: np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    segment, position = put(batch.slots.segment), put(batch.slots.position)
    width = segment.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    mask = (segment[:, :, None] == segment[:, None, :]) & causal
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        logits = model(
            input_ids=put(batch.tokens).long(), position_ids=position.long(),
            attention_mask=mask[:, None], use_cache=False,
        ).logits  # fmt: skip
    wanted = torch.where(put(batch.loss_mask), put(batch.targets).long(), -100)
    total = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
    )
    return total, (wanted >= 0).sum()


def compare(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> dict:
    """Both losses, their difference, and its standard error over batches (clusters of tokens)."""
    a, b = np.array(ours), np.array(theirs)
    assert np.array_equal(a[:, 1], b[:, 1]), "not the same held-out tokens"
    tokens = a[:, 1].sum()
    mean_a, mean_b = a[:, 0].sum() / tokens, b[:, 0].sum() / tokens
    residual = (a[:, 0] - b[:, 0]) - (mean_a - mean_b) * a[:, 1]
    error = float(np.sqrt((residual**2).sum() * len(a) / (len(a) - 1)) / tokens)
    return {
        "tokens": int(tokens), "batches": len(a), "jaxablate_loss": mean_a, "llama_loss": mean_b,
        "difference": mean_a - mean_b, "standard_error": error,
        "jaxablate_perplexity": float(np.exp(mean_a)), "llama_perplexity": float(np.exp(mean_b)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
