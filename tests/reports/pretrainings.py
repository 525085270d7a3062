"""An experiment that trains a model from nothing, as its stages leave it."""

from jaxablate.core.files import digest, write_json
from tests.reports.experiments import answers_of, made_by
from tests.reports.folders import write_finetune, write_run

SOURCES = {
    # name: kind, documents, tokens, held-out tokens, repeat, licence, places cut out
    "books": ("files", 40, 6000, 0, 1, "CC-BY-4.0 (OpenStax) and public domain", {}),
    "arc_easy": ("task", 90, 1100, 100, 3, "CC-BY-SA-4.0", {"arc_easy": 4, "piqa": 1}),
    "recall-1": ("synthetic", 50, 1000, 0, 1, "Apache-2.0", {}),
    "wikitext-2-validation": ("task", 5, 500, 500, 1, "CC-BY-SA", {}),
}
SCORES = {
    "scores": {"piqa": 0.55, "arc_easy": 0.9},
    "instruments": {"recall": 0.99, "null_mcq": 0.5},
}


def records_of(sources=None):
    """`records` of a pretraining's manifest."""
    found = {}
    for name, (_, documents, tokens, held_out, repeat, licence, cut) in (
        sources or SOURCES
    ).items():
        found[name] = {
            "licence": licence or None,
            "documents": documents,
            "tokens": tokens,
            "held_out_documents": 5 if held_out else 0,
            "held_out_tokens": held_out,
            "repeat": repeat,
            "dropped": dict(cut),
            "digest": digest(name),
        }
    train = sum(r["repeat"] * (r["tokens"] - r["held_out_tokens"]) for r in found.values())
    return {"sources": found, "train": {"examples": 90, "tokens": train, "digest": "d"}}


def _source(name, kind):
    task = name.removesuffix("-validation").removesuffix("-1")
    split = "validation" if name.endswith("-validation") else "train"
    return {"kind": kind, "name": task, "split": split, "paths": ["/far/away/text/*.txt"]}


def config_of(sources=None):
    """`config` of a pretraining's manifest."""
    sources = sources or SOURCES
    return {
        "name": "text",
        "steps": 20,
        "mask": "causal",
        "data": {
            "sources": [_source(name, one[0]) for name, one in sources.items()],
            "max_length": 128,
            "protect": {
                "folder": "/far/away/data",
                "tasks": ["piqa", "squad"],
                "split": "validation",
                "ngram": 13,
            },
        },
        "rows": 16,
        "optimiser": {"kind": "adamw", "weight_decay": 0.1, "momentum_dtype": "float32"},
        "schedule": {"kind": "cosine", "peak": 0.002, "warmup_share": 0.0},
        "step": {"compute_dtype": "bfloat16", "master_dtype": "float32", "clip_norm": 1.0},
        "seed": 7,
        "shape": {"family": "ministral3", "layers": 6, "hidden": 256, "mlp": 768, "heads": 8}
        | {"kv_heads": 4, "head_dim": 32, "tied": True},
        "tokenizer": {"style": "tekken", "vocab_size": 4096, "path": ""},
    }


def write_pretraining(folder, *, sources=None, losses=(9.0, 5.0, 4.0), **more):
    """A pretraining's run folder."""
    config = config_of(sources)
    manifest = {
        "kind": "pretrain",
        "config": config,
        "fingerprint": digest(config),
        "records": records_of(sources),
        "devices": "1 x NVIDIA H200",
        "seconds": 300.4,
        "environment": {
            "argv": ["/far/away/bin/jaxablate", "run", "/far/away/ref.yaml", "--out", "runs/ref"],
            "git": {"commit": "c" * 40, "changed": False},
            "code": "d" * 64,
        },
    }
    return write_finetune(
        folder, {"causal": list(losses)}, mask="causal", planned=20, more=manifest | more
    )


def write_reference(root, *, masks=("causal", "prefix_lm"), leaky=(), items=300, scores=None):
    """Stages text -> instruct -> scores, instruments; the base is what `instruct` made."""
    root.mkdir(parents=True)
    stages = []

    def add(stage, kind, model, title):
        run = f"{stage}-{digest(stage)[:6]}"
        stages.append({"name": stage, "kind": kind, "model": model, "run": run, "title": title})
        return root / run

    text = write_pretraining(add("text", "pretrain", None, "Pretraining"))
    instruct = write_finetune(
        add("instruct", "finetune", "text", "Instructions"),
        {"causal": [4.0, 3.5]},
        mask="causal",
        planned=10,
        more={
            "source": made_by(text, mask="causal"),
            "records": {"name": "instructions", "licence": "Apache-2.0"},
            "devices": "1 x NVIDIA H200",
            "seconds": 8.2,
        },
    )
    for stage, rates in (SCORES if scores is None else scores).items():
        found = {
            mask: {
                task: right
                for name, rate in rates.items()
                for task, right in answers_of(rate, items=items, tasks=(name,)).items()
            }
            for mask in masks
        }
        write_run(
            add(stage, "evaluate", "base", stage.capitalize()),
            found,
            leaky=leaky,
            source=made_by(instruct, mask="causal"),
            config={"checkpoint": str(instruct), "data": "/far/away/data"},
        )
    table = {"format": 1, "name": "ref-6m", "stages": stages, "fingerprint": "e" * 64}
    write_json(root / "experiment.json", table)
    return root
