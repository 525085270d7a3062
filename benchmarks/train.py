"""Training: tokens per second of an optimiser step against transformers, in one run.

    python benchmarks/train.py --shape small                              # two CPU cores
    python benchmarks/train.py --shape ministral3-3b --rows 16            # one H200

Random weights, full rows of `--length` tokens (prompts of a quarter of the row on average, loss on
the rest), bfloat16 compute, AdamW, every contender in a process of its own:

    jaxablate-<mask>               float32 master weights, first moment in bfloat16
    transformers-eager-<mask>      a plain loop: bfloat16 weights and moments, fused AdamW on a GPU
    transformers-compile-<mask>    the same model through torch.compile

Masks: causal (transformers gets no mask and takes its fast path) and prefix_lm (an explicit 4D
mask there). The first steps compile and are not timed; making each step's inputs is.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

# The package without installing it; and not this folder, whose modules others would take
# for the package of that name.
sys.path[0] = str(Path(__file__).parent.parent)

SHAPES = {
    "small": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "head_dim": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048,
    },
    "ministral3-3b": {
        "hidden_size": 3072, "intermediate_size": 9216, "num_hidden_layers": 26, "head_dim": 128,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 131072,
    },
}  # fmt: skip
DEFAULTS = {
    "small": {"rows": 4, "length": 128, "steps": 3, "warm": 1},
    "ministral3-3b": {"rows": 16, "length": 1024, "steps": 10, "warm": 3},
}
# What these flags gain is measured beside the defaults of XLA by --xla-flags "".
XLA_FLAGS = "--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_latency_hiding_scheduler=true"
CONTENDERS = [
    f"{name}-{mask}"
    for name in ("jaxablate", "transformers-eager", "transformers-compile")
    for mask in ("causal", "prefix_lm")
]
RATE = 1e-5


def hf_config(shape: str) -> dict:
    """The Hugging Face config of a shape."""
    return {
        "model_type": "ministral3", "architectures": ["Ministral3ForCausalLM"], **SHAPES[shape],
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "max_position_embeddings": 262144,
        "tie_word_embeddings": True, "attention_dropout": 0.0, "sliding_window": None,
        "dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 11,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0,
            "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 16384, "llama_4_scaling_beta": 0.1,
        },
    }  # fmt: skip


def rows_of(arguments: argparse.Namespace, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [B, T] and prompt lengths [B] of a step."""
    random = np.random.default_rng(step)
    vocab, length = SHAPES[arguments.shape]["vocab_size"], arguments.length
    tokens = random.integers(10, vocab, (arguments.rows, length)).astype(np.int32)
    return tokens, random.integers(1, length // 2, arguments.rows)


def timed(arguments: argparse.Namespace, advance, wait) -> dict:
    """Seconds of the timed steps; `advance(step)` starts one, `wait()` waits and gives the loss."""
    started = time.perf_counter()
    advance(0)
    wait()
    first = time.perf_counter() - started
    for step in range(1, arguments.warm):
        advance(step)
    wait()
    started = time.perf_counter()
    for step in range(arguments.warm, arguments.warm + arguments.steps):
        advance(step)
    loss = wait()
    seconds = (time.perf_counter() - started) / arguments.steps
    tokens = arguments.rows * arguments.length
    return {"step_s": seconds, "tok_s": tokens / seconds, "first_s": first, "loss": loss}


def run_jaxablate(arguments: argparse.Namespace, mask: str) -> dict:
    """The step of this package, on one device or on `--mesh`."""
    import jax

    from jaxablate.core.mesh import make_mesh, parse_mesh
    from jaxablate.data.batch import Example, collate
    from jaxablate.masks.parse import parse
    from jaxablate.models.decoder import Decoder
    from jaxablate.models.family import family_of
    from jaxablate.models.layout import weights
    from jaxablate.training.inputs import Preparation
    from jaxablate.training.optimiser import OptimiserConfig, make
    from jaxablate.training.schedules import Schedule
    from jaxablate.training.state import create
    from jaxablate.training.step import StepConfig, make_train_step

    raw = hf_config(arguments.shape)
    config = family_of(raw).from_hf(raw)
    mesh = make_mesh(parse_mesh(arguments.mesh)) if arguments.mesh else None
    optimiser = make(OptimiserConfig(kind=arguments.optimiser, momentum_dtype="bfloat16"))
    settings = StepConfig(remat=arguments.remat, logit_bytes=arguments.logit_mib * 2**20)
    state = create(
        weights(Decoder(config, dtype="bfloat16", layout=arguments.layout)), {}, optimiser,
        seed=0, master_dtype=settings.master_dtype, compute_dtype=settings.compute_dtype,
        mesh=mesh,
    )  # fmt: skip
    step = make_train_step(
        config, optimiser=optimiser, settings=settings, mesh=mesh, layout=arguments.layout,
        schedule=Schedule(kind="constant", peak=RATE, total_steps=100),
    )  # fmt: skip
    prepare = Preparation(
        mask=parse(mask), config=config, mesh=mesh, microbatches=arguments.microbatches
    )
    metrics = None

    def advance(index: int) -> None:
        nonlocal state, metrics
        tokens, prompts = rows_of(arguments, index)
        examples = [
            [Example(str(row), ids, int(prompt))]
            for row, (ids, prompt) in enumerate(zip(tokens, prompts, strict=True))
        ]
        state, metrics = step(state, prepare(collate(examples, arguments.length)))

    def wait() -> float:
        jax.block_until_ready(state)
        return float(metrics.loss.mean)

    result = timed(arguments, advance, wait)
    memory = jax.local_devices()[0].memory_stats() or {}
    return {**result, "memory": memory.get("peak_bytes_in_use")}


def run_transformers(arguments: argparse.Namespace, mask: str, *, compiled: bool) -> dict:
    """A plain loop in PyTorch."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = AutoConfig.for_model(**hf_config(arguments.shape))
    config.use_cache = False
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    run = torch.compile(model) if compiled else model
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=RATE, weight_decay=0.0, fused=device == "cuda"
    )
    index = torch.arange(arguments.length, device=device)
    loss = None

    def advance(step: int) -> None:
        nonlocal loss
        host, lengths = rows_of(arguments, step)
        tokens = torch.tensor(host, dtype=torch.long, device=device)
        prompts = torch.tensor(lengths, device=device)[:, None, None]
        sees = None
        if mask == "prefix_lm":
            query, key = index[None, :, None], index[None, None, :]
            sees = ((key <= query) | ((query < prompts) & (key < prompts)))[:, None]
            lowest = torch.finfo(torch.bfloat16).min
            sees = torch.where(sees, 0.0, lowest).to(torch.bfloat16)
        labels = torch.where(index[None] < prompts[:, 0], -100, tokens)
        loss = run(input_ids=tokens, attention_mask=sees, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    def wait() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return loss.item()

    result = timed(arguments, advance, wait)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {**result, "memory": memory}


def child(arguments: argparse.Namespace) -> None:
    """Run one contender and print its result as one line of JSON."""
    name, _, mask = arguments.child.rpartition("-")
    if name == "jaxablate":
        result = run_jaxablate(arguments, mask)
    else:
        result = run_transformers(arguments, mask, compiled=name.endswith("compile"))
    print("RESULT " + json.dumps(result))


def main() -> None:
    """Every contender in a process of its own; a line as each ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    for name in ("rows", "length", "steps", "warm"):
        parser.add_argument(f"--{name}", type=int, default=0, help="0: the shape's own")
    parser.add_argument("--microbatches", type=int, default=1)
    parser.add_argument("--optimiser", default="adamw")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--layout", default="loop")
    parser.add_argument("--logit-mib", type=int, default=1024)
    parser.add_argument("--mesh", default="", help='devices of jaxablate, such as "fsdp=2"')
    parser.add_argument("--xla-flags", default=XLA_FLAGS)
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="comma list")
    parser.add_argument("--json", help="write all figures here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name, default in DEFAULTS[arguments.shape].items():
        setattr(arguments, name, getattr(arguments, name) or default)
    if arguments.child:
        return child(arguments)
    table = {}
    for name in arguments.contenders.split(","):
        table[name] = start(name, arguments.xla_flags)
        report(name, table)
    if arguments.json:
        figures = {"arguments": vars(arguments), "results": table}
        Path(arguments.json).write_text(json.dumps(figures, indent=1))


def start(name: str, xla_flags: str) -> dict:
    """One contender's result, or why there is none."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--child", name],
        stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "XLA_FLAGS": flags},
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    return {"error": f"ended with code {done.returncode}"}


def report(name: str, table: dict) -> None:
    """One line: tokens per second, seconds of a step and of the first one, loss, memory."""
    result = table[name]
    if "error" in result:
        print(f"{name:32s} {result['error']}", flush=True)
        return
    line = f"{name:32s} {result['tok_s']:9.0f} tok/s   {result['step_s']:.4f} s/step"
    line += f"   first {result['first_s']:.1f} s   loss {result['loss']:.4f}"
    if result["memory"]:
        line += f"   peak {result['memory'] / 2**30:.1f} GiB"
    print(line, flush=True)


if __name__ == "__main__":
    main()
