"""Train a small Ministral-3-style decoder on text, in the Hugging Face layout, in minutes.

    python scripts/train_small.py prepare --text corpus/*.jsonl.xz --tasks data --out prepared
    python scripts/train_small.py train --prepared prepared --out small --minutes 6

`prepare` trains a byte-level BPE tokenizer and writes token ids; of the benchmark folders it reads
train splits only. `train` is one device, causal, AdamW in float32 with bfloat16 compute. The result
is an ordinary checkpoint folder: `jaxablate eval small ...`.
"""

import argparse
import gzip
import json
import lzma
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VOCAB, END = 8192, 0


def rendered(folder: Path) -> Iterator[str]:
    """Train splits of the five tasks as plain text, answers filled in."""

    def read(name: str) -> Iterator[dict]:
        with gzip.open(folder / name, "rt") as lines:
            yield from map(json.loads, lines)

    for row in read("piqa/train.jsonl.gz"):
        yield f"Question: {row['goal']}\nAnswer: {row['sol' + str(int(row['label']) + 1)]}"
    for task in ("arc_easy", "arc_challenge"):
        for row in read(f"{task}/train.jsonl.gz"):
            choices = row["choices"]
            answer = choices["text"][choices["label"].index(row["answerKey"])]
            yield f"Question: {row['question']}\nAnswer: {answer}"
    for row in read("winogrande/train.jsonl.gz"):
        yield row["sentence"].replace("_", row["option" + row["answer"]])
    for row in read("hellaswag/train_partial.jsonl.gz"):
        yield f"{row['ctx_a']} {row['ctx_b'].capitalize()} {row['endings'][int(row['label'])]}"


def prepare(arguments: argparse.Namespace) -> None:
    """Tokenizer, then `books.npy` and `tasks.npy` (uint16 token ids with END between texts)."""
    from tokenizers import ByteLevelBPETokenizer

    arguments.out.mkdir(parents=True, exist_ok=True)
    tasks = list(rendered(arguments.tasks))

    def books() -> Iterator[str]:
        for path in arguments.text:
            with lzma.open(path, "rt") as lines:
                for line in lines:
                    yield json.loads(line)["text"]

    sample = (text[:60_000] for text in books())
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        [*sample, *tasks], vocab_size=VOCAB, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    write_tokens(tokenizer, tasks, arguments.out / "tasks.npy", limit=None)
    write_tokens(tokenizer, books(), arguments.out / "books.npy", limit=arguments.tokens)


def write_tokens(tokenizer: object, texts: Iterator[str], path: Path, limit: int | None) -> None:
    """Encode texts in pieces until `limit` tokens, END after each text."""
    parts, total = [], 0
    for text in texts:
        pieces = [text[i : i + 100_000] for i in range(0, len(text), 100_000)]
        ids = [i for coded in tokenizer.encode_batch(pieces) for i in coded.ids]
        parts.append(np.asarray([*ids, END], np.uint16))
        total += len(parts[-1])
        if limit is not None and total >= limit:
            break
    np.save(path, np.concatenate(parts))
    print(f"{path.name}: {total} tokens")


def hf_config(dtype: str) -> dict:
    """Ministral-3 style, about 25 M parameters, tied."""
    return {
        "model_type": "ministral3", "architectures": ["Ministral3ForCausalLM"],
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 7,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": VOCAB,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "max_position_embeddings": 2048,
        "tie_word_embeddings": True, "attention_dropout": 0.0, "sliding_window": None,
        "dtype": dtype, "bos_token_id": None, "eos_token_id": END, "pad_token_id": None,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "beta_fast": 32.0,
            "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 1024, "llama_4_scaling_beta": 0.1,
        },
    }  # fmt: skip


def batches(prepared: Path, rows: int, length: int, share: float) -> Iterator[np.ndarray]:
    """Random windows, a share of the rows from the task text."""
    random = np.random.default_rng(0)
    books, tasks = (np.load(prepared / f"{name}.npy") for name in ("books", "tasks"))
    from_tasks = int(rows * share)
    while True:
        windows = []
        for source, count in ((books, rows - from_tasks), (tasks, from_tasks)):
            starts = random.integers(0, len(source) - length - 1, count)
            windows += [source[start : start + length + 1] for start in starts]
        yield np.stack(windows).astype(np.int32)


def train(arguments: argparse.Namespace) -> None:
    """AdamW with a cosine over the given minutes, then a Hugging Face folder."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from jaxablate.checkpoints.hf import save_hf
    from jaxablate.core.slots import rows as slot_rows
    from jaxablate.engine.plan import plan_mask, without_cache
    from jaxablate.masks.parse import parse
    from jaxablate.models.decoder import Decoder
    from jaxablate.models.families import get

    config = get("ministral3").from_hf(hf_config(arguments.save_dtype))
    graph, state = nnx.split(Decoder(config, dtype="float32", rngs=nnx.Rngs(0)))
    slots = slot_rows([arguments.length] * arguments.rows, arguments.length)
    plan = plan_mask(parse("causal"), slots, slots, config)
    compute = jnp.bfloat16 if jax.default_backend() == "gpu" else jnp.float32
    progress = optax.cosine_decay_schedule(1.0, 1_000_000, alpha=0.02)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(b2=0.95),
        optax.add_decayed_weights(0.1),
    )

    def loss_of(state: nnx.State, window: jax.Array) -> jax.Array:
        cast = jax.tree.map(lambda x: x.astype(compute), state)
        decoder = nnx.merge(graph, cast)
        hidden = decoder(
            window[:, :-1], positions_BT=jnp.asarray(slots.position), attend=without_cache(plan)
        ).hidden
        loss = optax.softmax_cross_entropy_with_integer_labels(
            decoder.unembed(hidden), window[:, 1:]
        )
        return loss.mean()

    @jax.jit
    def step(state: nnx.State, inner: object, window: jax.Array, rate: jax.Array) -> tuple:
        loss, gradient = jax.value_and_grad(loss_of)(state, window)
        change, inner = optimiser.update(gradient, inner, state)
        state = jax.tree.map(lambda x, u: x - rate * u, state, change)
        return state, inner, loss

    inner = optimiser.init(state)
    started, count, stream = (
        time.perf_counter(),
        0,
        batches(arguments.prepared, arguments.rows, arguments.length, arguments.task_share),
    )
    while (share := (time.perf_counter() - started) / 60 / arguments.minutes) < 1:
        rate = arguments.rate * min(1.0, count / 100) * float(progress(int(share * 1_000_000)))
        state, inner, loss = step(state, inner, jnp.asarray(next(stream)), jnp.float32(rate))
        count += 1
        if count % 200 == 1:
            seen = count * arguments.rows * arguments.length
            seconds = time.perf_counter() - started
            print(f"step {count} loss {float(loss):.3f} tokens {seen / 1e6:.0f} M {seconds:.0f} s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    state = jax.tree.map(lambda x: x.astype(arguments.save_dtype), state)
    save_hf(nnx.merge(graph, state), config, arguments.out / "model", max_shard_bytes=15_000_000)
    tokenizer = (arguments.prepared / "tokenizer.json").read_text()
    (arguments.out / "model" / "tokenizer.json").write_text(tokenizer)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (arguments.out / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    print(f"{count} steps, last loss {float(loss):.3f}: {arguments.out / 'model'}")


def main() -> None:
    """Parse and run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("prepare")
    first.add_argument("--text", type=Path, nargs="+", required=True)
    first.add_argument("--tasks", type=Path, required=True)
    first.add_argument("--tokens", type=int, default=40_000_000)
    first.add_argument("--out", type=Path, required=True)
    first.set_defaults(run=prepare)
    second = commands.add_parser("train")
    second.add_argument("--prepared", type=Path, required=True)
    second.add_argument("--out", type=Path, required=True)
    second.add_argument("--minutes", type=float, default=6.0)
    second.add_argument("--rows", type=int, default=128)
    second.add_argument("--length", type=int, default=512)
    second.add_argument("--rate", type=float, default=2e-3)
    second.add_argument("--task-share", type=float, default=0.3)
    second.add_argument("--save-dtype", choices=("float32", "bfloat16"), default="bfloat16")
    second.set_defaults(run=train)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
