"""Training: tokens per second of an optimiser step against transformers, in one run.

    python benchmarks/train.py --shape small                              # two CPU cores
    python benchmarks/train.py --shape ministral3-3b --rows 16            # one H200
    python benchmarks/train.py --shape ministral3-3b --data alpaca        # packed instruction data

Random weights, bfloat16 compute, AdamW, every contender in a process of its own. `--data rows`:
full rows of `--length` tokens (prompts of a quarter of the row on average, loss on the rest).
`--data alpaca`: examples of real lengths (benchmarks/alpaca_lengths.txt), packed into rows by
jaxablate, padded batches of `--examples` for transformers; tokens are real ones, padding is not
counted. Contenders:

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


def examples_of(arguments: argparse.Namespace) -> list[tuple[np.ndarray, int]]:
    """Random tokens and prompt length of every example, with the lengths of real ones."""
    lengths = np.loadtxt(Path(__file__).parent / "alpaca_lengths.txt", dtype=int)
    random, vocab = np.random.default_rng(0), SHAPES[arguments.shape]["vocab_size"]
    cut = [(prompt, min(prompt + answer, arguments.length)) for prompt, answer in lengths]
    return [
        (random.integers(10, vocab, size).astype(np.int32), int(prompt))
        for prompt, size in cut
        if prompt < size
    ]


def padded_of(
    arguments: argparse.Namespace, step: int, examples: list
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens [B, T], prompt lengths [B] and lengths [B] of a padded batch."""
    if arguments.data == "rows":
        tokens, prompts = rows_of(arguments, step)
        return tokens, prompts, np.full(len(tokens), arguments.length)
    order = np.random.default_rng(0).permutation(len(examples))
    first = step * arguments.examples
    chosen = [examples[i] for i in order[first : first + arguments.examples]]
    sizes = np.array([len(ids) for ids, _ in chosen])
    tokens = np.zeros((len(chosen), sizes.max()), np.int32)
    for row, (ids, _) in enumerate(chosen):
        tokens[row, : len(ids)] = ids
    return tokens, np.array([prompt for _, prompt in chosen]), sizes


def timed(arguments: argparse.Namespace, advance, wait) -> dict:
    """Seconds of the timed steps; `advance(step)` starts one and returns its real tokens,
    `wait()` waits and gives the loss."""
    started = time.perf_counter()
    advance(0)
    wait()
    first = time.perf_counter() - started
    for step in range(1, arguments.warm):
        advance(step)
    wait()
    started = time.perf_counter()
    last = arguments.warm + arguments.steps
    tokens = sum(advance(step) for step in range(arguments.warm, last))
    loss = wait()
    seconds = time.perf_counter() - started
    return {
        "step_s": seconds / arguments.steps, "tok_s": tokens / seconds, "first_s": first,
        "loss": loss,
    }  # fmt: skip


def run_jaxablate(arguments: argparse.Namespace, mask: str) -> dict:
    """The step of this package, on one device or on `--mesh`."""
    import jax

    from jaxablate.core.mesh import make_mesh, parse_mesh
    from jaxablate.data.batch import Batch, Example, collate, counts
    from jaxablate.data.pipeline import Pipeline
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
    pipeline = None
    if arguments.data == "alpaca":
        packed = [
            Example(str(i), ids, prompt) for i, (ids, prompt) in enumerate(examples_of(arguments))
        ]
        pipeline = Pipeline(packed, width=arguments.length, rows=arguments.rows, seed=0)
        print(f"packed rows are {pipeline.fill:.1%} full", file=sys.stderr)

    def batch_of(index: int) -> Batch:
        if pipeline is not None:
            return pipeline.batch(index)
        tokens, prompts = rows_of(arguments, index)
        examples = [
            [Example(str(row), ids, int(prompt))]
            for row, (ids, prompt) in enumerate(zip(tokens, prompts, strict=True))
        ]
        return collate(examples, arguments.length)

    def advance(index: int) -> int:
        nonlocal state, metrics
        batch = batch_of(index)
        state, metrics = step(state, prepare(batch))
        return counts(batch)["tokens"]

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
    examples = examples_of(arguments) if arguments.data == "alpaca" else []
    loss = None

    def advance(step: int) -> int:
        nonlocal loss
        host, lengths, sizes = padded_of(arguments, step, examples)
        tokens = torch.tensor(host, dtype=torch.long, device=device)
        index = torch.arange(host.shape[1], device=device)
        prompts = torch.tensor(lengths, device=device)[:, None, None]
        real = torch.tensor(sizes, device=device)[:, None, None]
        sees = None
        if mask == "prefix_lm":
            query, key = index[None, :, None], index[None, None, :]
            sees = ((key <= query) | ((query < prompts) & (key < prompts)))[:, None]
            lowest = torch.finfo(torch.bfloat16).min
            sees = torch.where(sees, 0.0, lowest).to(torch.bfloat16)
        # Right padding is never seen by a real token, and its loss is not counted.
        learned = (index[None] >= prompts[:, 0]) & (index[None] < real[:, 0])
        labels = torch.where(learned, tokens, -100)
        loss = run(input_ids=tokens, attention_mask=sees, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return int(sizes.sum())

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
    parser.add_argument("--data", choices=("rows", "alpaca"), default="rows")
    parser.add_argument("--examples", type=int, default=32, help="of a padded batch")
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
