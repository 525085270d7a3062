"""Lines of metrics as sentences, for a log and for `jaxablate tail`."""

from collections.abc import Mapping
from typing import Any

GIB = 2**30


def sentence(
    entry: Mapping[str, Any], *, steps: int | None = None, timing: Mapping[str, Any] | None = None
) -> str:
    """One line of metrics.jsonl for people; `steps` is the planned number of steps.

    >>> sentence({"step": 5, "kind": "eval", "mask": "causal", "loss": 1.5, "leaky": False})
    'step 5: held-out loss 1.5000 under causal'
    """
    told = evaluated(entry) if entry["kind"] == "eval" else ", ".join(trained(entry, timing))
    return f"step {entry['step']}{f'/{steps}' if steps else ''}: {told}"


def trained(entry: Mapping[str, Any], timing: Mapping[str, Any] | None = None) -> list[str]:
    """What a "train" line and the line of timing.jsonl beside it say."""
    told = [
        f"loss {entry['loss']:.4f}",
        f"learning rate {entry['learning_rate']:.2e}",
        f"gradient norm {entry['grad_norm']:.3g}",
    ]
    return told + (rates(timing) if timing is not None else [])


def rates(timing: Mapping[str, Any]) -> list[str]:
    """Speed, share of real tokens, utilisation and memory, those that are known."""
    shown = (
        ("tokens_per_s", lambda value: f"{value:,.0f} tokens/s"),
        ("real_share", lambda value: f"{value:.0%} of them real"),
        ("mfu", lambda value: f"{value:.1%} MFU"),
        ("memory_bytes", lambda value: f"{value / GIB:.1f} GiB"),
    )
    return [show(timing[key]) for key, show in shown if timing.get(key) is not None]


def evaluated(entry: Mapping[str, Any]) -> str:
    """What an "eval" line says; a loss under a mask that leaks says so."""
    also = f" ({decoded(entry)} decoded token by token)" if "decode_loss" in entry else ""
    stamp = " LEAKY" if entry["leaky"] else ""
    return f"held-out loss {entry['loss']:.4f} under {entry['mask']}{stamp}{also}"


def decoded(entry: Mapping[str, Any]) -> str:
    """The loss of what was decoded, and of how many tokens: it is fewer than the other loss has."""
    return f"{entry['decode_loss']:.4f} of {entry['decode_targets']} tokens"
