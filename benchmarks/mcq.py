"""Multiple-choice scoring: rows (choices) per second against transformers, in one run.

    python benchmarks/mcq.py --shape small --questions 200                # two CPU cores
    python benchmarks/mcq.py --shape ministral3-3b --dtype bfloat16       # one H200

Writes a random checkpoint of the shape, then runs each contender in a process of its own over the
same token rows: lengths of real HellaSwag questions (benchmarks/hellaswag_lengths.txt), in the
official mix of sources, with random token ids. Contenders: transformers one row at a time,
transformers in length-sorted batches of 64 (both as lm-evaluation-harness does it: right padding,
float32 log-softmax of all logits), jaxablate. Sums of log-likelihoods are compared between them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from conversion import hf_config, write_checkpoint

HERE = Path(__file__).parent
SHAPES = {
    "small": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "head_dim": 32,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 8192,
    },
    "ministral3-3b": {"vocab_size": 131072},
}  # fmt: skip
# Official HellaSwag validation: 3243 ActivityNet questions, then 6799 from WikiHow. The lengths
# file has all of the first and 1778 of the second, which are repeated to the official share.
ACTIVITYNET, WIKIHOW = 3243, 6799


def question_lengths(count: int, seed: int = 0) -> np.ndarray:
    """[count, 5]: prompt and four endings in tokens, drawn in the official mix."""
    lengths = np.loadtxt(HERE / "hellaswag_lengths.txt", dtype=int)
    random = np.random.default_rng(seed)
    wiki = random.random(count) < WIKIHOW / (ACTIVITYNET + WIKIHOW)
    first = random.integers(0, ACTIVITYNET, count)
    second = random.integers(ACTIVITYNET, len(lengths), count)
    return lengths[np.where(wiki, second, first)]


def make_questions(count: int, vocab: int, seed: int = 0) -> list:
    """Questions with random token ids of real lengths."""
    random = np.random.default_rng(seed)
    rows = []
    for prompt, *endings in question_lengths(count, seed):
        first, *rest = (random.integers(10, vocab, size).tolist() for size in (prompt, *endings))
        rows.append((first, rest))
    return rows


def run_transformers(folder: Path, questions: list, dtype: str, batch: int) -> dict:
    """Rows in length-sorted batches, as lm-evaluation-harness runs them."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model = model.to(device).eval()
    loaded = time.perf_counter() - started
    rows = [(p, c, i) for i, (p, cs) in enumerate(questions) for c in cs]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]) - len(rows[i][1]))
    sums = np.zeros(len(rows))

    @torch.inference_mode()
    def score(members: list[int]) -> None:
        inputs = [(rows[i][0] + rows[i][1])[:-1] for i in members]
        width = max(map(len, inputs))
        tokens = torch.zeros(len(inputs), width, dtype=torch.long)
        for at, row in enumerate(inputs):
            tokens[at, : len(row)] = torch.tensor(row)
        logits = model(tokens.to(device), use_cache=False).logits
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        for at, i in enumerate(members):
            prompt, continuation, _ = rows[i]
            span = logprobs[at, len(prompt) - 1 : len(prompt) + len(continuation) - 1]
            target = torch.tensor(continuation, device=device)[:, None]
            sums[i] = span.gather(-1, target).sum().item()

    batches = [order[i : i + batch] for i in range(0, len(order), batch)]
    for members in batches[:: max(1, len(batches) // 3)]:
        score(members)
    started = time.perf_counter()
    for members in batches:
        score(members)
    if device == "cuda":
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - started, "load_s": loaded, "sums": sums.tolist()}


def run_jaxablate(
    folder: Path, questions: list, dtype: str, mesh: str, mask: str, shared: str
) -> dict:
    """All questions, prompts shared; the first pass compiles and is not timed."""
    import jaxablate
    from jaxablate.engine.layout import Question
    from jaxablate.engine.score import Scorer
    from jaxablate.masks.parse import parse

    started = time.perf_counter()
    lm = jaxablate.load(folder, dtype=dtype, mesh=mesh or None)
    loaded = time.perf_counter() - started
    asked = [Question(tuple(p), tuple(map(tuple, cs))) for p, cs in questions]
    scorer = Scorer(lm, parse(mask), shared=shared)
    started = time.perf_counter()
    batches = scorer.plan(asked)
    planned = time.perf_counter() - started
    by_shape = {(b.rows.length, b.num_targets): b for b in batches}
    started = time.perf_counter()
    list(scorer.stream(by_shape.values()))
    compiled = time.perf_counter() - started
    started = time.perf_counter()
    found: dict = {}
    for _, scores in scorer.stream(scorer.plan(asked)):
        found.update(scores)
    seconds = time.perf_counter() - started
    sums = [score.sum for i in range(len(asked)) for score in found[i]]
    tokens = sum(block.length for b in batches for row in b.rows.rows for block in row)
    slots = sum(b.num_rows * b.rows.length for b in batches)
    return {
        "seconds": seconds, "load_s": loaded, "plan_s": planned, "compile_s": compiled,
        "batches": len(batches), "programs": len(by_shape), "tokens": tokens,
        "slots": slots, "sums": sums, "description": scorer.description(),
    }  # fmt: skip


def child(arguments: argparse.Namespace) -> None:
    """Run one contender and print its result as one line of JSON."""
    questions = json.loads(Path(arguments.questions_file).read_text())
    questions = questions[: arguments.questions]
    folder = Path(arguments.folder)
    if arguments.child.startswith("transformers"):
        batch = int(arguments.child.split("-")[1])
        result = run_transformers(folder, questions, arguments.dtype, batch)
    else:
        _, mask, shared = arguments.child.split("-")
        result = run_jaxablate(folder, questions, arguments.dtype, arguments.mesh, mask, shared)
    result["rows"] = sum(len(cs) for _, cs in questions)
    print("RESULT " + json.dumps(result))


def main() -> None:
    """Make the checkpoint, run every contender, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--one-by-one", type=int, default=50, help="questions for batch 1")
    parser.add_argument("--batched", type=int, default=200, help="questions for batches of 64")
    parser.add_argument("--contenders", default="", help="only these, comma list")
    parser.add_argument("--mesh", default="", help="devices of jaxablate, as in data=2")
    parser.add_argument("--json", help="write all figures here")
    parser.add_argument("--folder", help="keep the checkpoint here and use it again")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--questions-file", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.folder or scratch)
        folder.mkdir(exist_ok=True)
        if not (folder / "config.json").exists():
            sizes = {**SHAPES[arguments.shape], "dtype": arguments.dtype}
            write_checkpoint(folder, {**hf_config(1.0), **sizes})
        questions = Path(scratch) / "questions.json"
        vocab = SHAPES[arguments.shape]["vocab_size"]
        questions.write_text(json.dumps(make_questions(arguments.questions, vocab)))
        table = run_all(arguments, folder, questions)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(table, indent=1))


def run_all(arguments: argparse.Namespace, folder: Path, questions: Path) -> dict:
    """Each contender in its own process; prints a line as each ends."""
    contenders = {
        "transformers-1": arguments.one_by_one,
        "transformers-64": arguments.batched,
        "jaxablate-causal-auto": arguments.questions,
        "jaxablate-prefix_lm-auto": arguments.questions,
        "jaxablate-causal-never": arguments.questions,
    }
    wanted = arguments.contenders.split(",") if arguments.contenders else list(contenders)
    table: dict[str, dict] = {}
    for name in wanted:
        command = [
            sys.executable, __file__, "--child", name, "--folder", str(folder), "--dtype",
            arguments.dtype, "--mesh", arguments.mesh, "--questions-file", str(questions),
            "--questions", str(min(contenders[name], arguments.questions)),
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
        table[name] = json.loads(line.removeprefix("RESULT "))
        report(name, table)
    return table


def report(name: str, table: dict) -> None:
    """One line: rows per second, and the largest difference of a sum to batches of 64."""
    result = table[name]
    rate = result["rows"] / result["seconds"]
    line = f"{name:28s} {rate:9.1f} rows/s   load {result['load_s']:.1f} s"
    if "tokens" in result:
        fill = result["tokens"] / result["slots"]
        line += (
            f"   {result['tokens'] / result['rows']:.1f} tokens/row, rows {fill:.1%} full, "
            f"{result['programs']} programs, compile {result['compile_s']:.1f} s, "
            f"plan {result['plan_s']:.2f} s"
        )
    peer = table.get("transformers-64")
    if peer and peer is not result and "prefix" not in name:
        shared = min(len(peer["sums"]), len(result["sums"]))
        worst = np.abs(np.subtract(peer["sums"][:shared], result["sums"][:shared])).max()
        line += f"   max |sum - peer| {worst:.4g}"
        line += f"   {rate / (peer['rows'] / peer['seconds']):.2f} x batches of 64"
    print(line, flush=True)


if __name__ == "__main__":
    main()
