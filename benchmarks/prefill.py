"""Time to first token and prefill speed under each mask, against transformers in the same run.

    python benchmarks/prefill.py ref-6m --tokens 128 --batches 1 4              # two CPU cores
    python benchmarks/prefill.py MODEL --dtype bfloat16 --tokens 512 --batches 1 32      # one GPU

Random prompts of one length, and for jaxablate of lengths drawn anew for each call as well, since
it keeps the plan of a mask for lengths that come again. A time is from the call with token ids on
the host to the ids of the first new tokens on the host; each is the median of many, after warm-up,
with its quartiles. jaxablate prefills into the cache from which it would go on; transformers does
the same with its dynamic cache, and with `--compile` through torch.compile. Under `prefix_lm`
prompts are read both ways. One line of JSON a contender.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="checkpoint folder in Hugging Face layout, or a shipped name")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=512, help="of each prompt")
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--masks", nargs="+", default=["causal", "prefix_lm"])
    parser.add_argument("--times", type=int, default=50, help="calls that are timed")
    parser.add_argument("--compile", action="store_true", help="torch.compile transformers too")
    arguments = parser.parse_args()
    from jaxablate.checkpoints.hub import resolve

    folder = Path(resolve(arguments.model))
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    for batch in arguments.batches:
        shape = (batch, arguments.tokens)
        prompts = np.random.default_rng(0).integers(10, vocabulary, shape)
        tell(time_jaxablate(folder, prompts, arguments), arguments)
        for compiled in (False, True)[: 1 + arguments.compile]:
            tell([time_transformers(folder, prompts, arguments, compiled)], arguments)


def tell(found: list[dict], arguments: argparse.Namespace) -> None:
    for one in found:
        where = {"dtype": arguments.dtype, "tokens": arguments.tokens}
        print(json.dumps(one | where), flush=True)


def time_jaxablate(folder: Path, prompts: np.ndarray, arguments: argparse.Namespace) -> list[dict]:
    """Every mask in turn."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from jaxablate.core.slots import rows
    from jaxablate.engine.prefill import prefill
    from jaxablate.language_model import load
    from jaxablate.masks.parse import parse

    lm = load(folder, dtype=arguments.dtype)
    batch, width = prompts.shape
    tokens = prompts.astype(np.int32)
    random = np.random.default_rng(1)

    @jax.jit
    def choose(params, hidden, lengths):
        last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)
        return jnp.argmax(nnx.merge(lm.graph, params).unembed(last)[:, 0], axis=-1)

    def first_tokens(mask, shortest: int) -> np.ndarray:
        lengths = random.integers(shortest, width + 1, batch)
        read = prefill(lm, tokens, rows(lengths, width), mask, room=64)
        return np.asarray(choose(lm.params, read.hidden, lengths))

    cases = {"": width, ", new lengths each call": width // 2}
    return [
        {"contender": f"jaxablate, {name}{what}", "batch": batch}
        | timed(partial(first_tokens, parse(name), shortest), prompts.size, arguments.times)
        for name in arguments.masks
        for what, shortest in cases.items()
    ]


def time_transformers(
    folder: Path, prompts: np.ndarray, arguments: argparse.Namespace, compiled: bool
) -> dict:
    """Causal, as generate() begins."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, arguments.dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    forward = torch.compile(model) if compiled else model

    @torch.inference_mode()
    def first_tokens() -> np.ndarray:
        tokens = torch.from_numpy(prompts).to(device)
        logits = forward(input_ids=tokens, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].argmax(-1).cpu().numpy()

    name = f"transformers, {'torch.compile' if compiled else 'eager'}, causal"
    return {"contender": name, "batch": len(prompts)} | timed(
        first_tokens, prompts.size, arguments.times
    )


def timed(call, tokens: int, times: int) -> dict:
    """Milliseconds to the first token (median, quartiles) and prompt tokens a second."""
    for _ in range(3):
        call()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return {
        "ttft_ms": round(1e3 * middle, 2),
        "quartiles_ms": [round(1e3 * low, 2), round(1e3 * high, 2)],
        "tokens_per_s": round(tokens / middle),
    }


if __name__ == "__main__":
    main()
