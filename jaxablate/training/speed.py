"""How fast training goes: tokens per second, share of the hardware's peak, memory.

Nothing here decides anything or reaches a report.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from jaxablate.models.config import DecoderConfig

# Dense bfloat16 FLOP/s by a part of the device's name, the first that fits. From the vendors' data
# sheets: nvidia.com/en-us/data-center/{h100,h200,a100}, cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}.
PEAKS = (
    ("MIG", None),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device, None for one that is not known.

    >>> peak_flops("NVIDIA H100 80GB HBM3")
    989000000000000.0
    """
    return next((peak for part, peak in PEAKS if part in device_kind), None)


def matmul_parameters(config: DecoderConfig) -> int:
    """Weights that every token is multiplied with: projections, MLP and logits.

    The embedding is looked up, not multiplied; norms and biases do not count.
    """
    heads = config.num_heads + config.num_kv_heads
    attention = 2 * heads * config.head_dim * config.hidden_size
    mlp = 3 * config.hidden_size * config.intermediate_size
    return config.num_layers * (attention + mlp) + config.vocab_size * config.hidden_size


def flops_per_token(config: DecoderConfig, parameters: Mapping[str, int], length: float) -> float:
    """Floating-point operations that training on one token needs, without recomputation.

    6 * matmul parameters + 12 * layers * heads * head width * attended length (PaLM, arXiv
    2204.02311, appendix B, where the attended length is the whole row). A multiply and an add are
    two operations; the backward pass takes as much once for activations, once for weights. Frozen
    weights have no gradient: 4 * matmul parameters + 2 * trained ones. What LoRA's own factors add
    to the forward pass, less than a hundredth, is not counted.

    Args:
        config: the decoder's.
        parameters: numbers of "trained" and "frozen" weights.
        length: tokens that a token attends to in the mean; a layer's window caps it.
    """
    weights = matmul_parameters(config)
    trained = min(parameters["trained"], weights) if parameters["frozen"] else weights
    attended = sum(min(length, window or length) for window in config.windows)
    return 4 * weights + 2 * trained + 12 * config.num_heads * config.head_dim * attended


class Speed:
    """A meter of the time between the lines of metrics, in seconds of a clock that cannot jump.

    Utilisation (MFU) counts real tokens only, so padding lowers it, and takes half a row as the
    attended length, what a causal mask over a full row has; both err on the low side.
    """

    def __init__(
        self,
        config: DecoderConfig,
        parameters: Mapping[str, int],
        *,
        width: int,
        devices: Sequence[Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Start the clock.

        Args:
            config: the decoder's.
            parameters: numbers of "trained" and "frozen" weights.
            width: tokens of a row.
            devices: that share the work, of all processes; default: the first one alone.
            clock: seconds.
        """
        self._devices = list(jax.local_devices()[:1] if devices is None else devices)
        self._flops = flops_per_token(config, parameters, width / 2)
        peaks = [peak_flops(device.device_kind) for device in self._devices]
        known = [peak for peak in peaks if peak is not None]
        self._peak = sum(known) if len(known) == len(peaks) else None
        self._clock = clock
        self._began = clock()
        self._since, self._away, self._paused = self._began, 0.0, 0.0
        self._windows: list[tuple[float, int, int]] = []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside (an evaluation, a save) takes no training time."""
        start = self._clock()
        try:
            yield
        finally:
            self._away += self._clock() - start

    def entry(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """The line of timing.jsonl for a "train" line of metrics, since the line before.

        The first one holds the time of compilation too. `tokens_per_s` counts every slot of the
        batch, `real_tokens_per_s` those that are no padding.
        """
        now = self._clock()
        window = (now - self._since - self._away, metrics["slots"], metrics["tokens"])
        self._paused += self._away
        self._since, self._away = now, 0.0
        self._windows.append(window)
        return {"step": metrics["step"], "seconds": window[0], **self._rates([window])}

    def totals(self) -> dict[str, Any]:
        """Rates of this start of the run, for the summary.

        The first window, which compiles, counts only where there is no other. `seconds` is all
        time since the meter was made, `train_seconds` what of it is not evaluation or saving.
        """
        seconds = self._clock() - self._began
        paused = self._paused + self._away
        rates = self._rates(self._windows[1:] or self._windows)
        return {"seconds": seconds, "train_seconds": seconds - paused, **rates}

    def _rates(self, windows: Sequence[tuple[float, int, int]]) -> dict[str, Any]:
        seconds, slots, tokens = map(sum, zip((0.0, 0, 0), *windows, strict=True))
        if not seconds > 0 or not slots:
            nothing = dict.fromkeys(("tokens_per_s", "real_tokens_per_s", "real_share", "mfu"))
            return {**nothing, "memory_bytes": self._memory()}
        return {
            "tokens_per_s": slots / seconds,
            "real_tokens_per_s": tokens / seconds,
            "real_share": tokens / slots,
            "mfu": tokens / seconds * self._flops / self._peak if self._peak else None,
            "memory_bytes": self._memory(),
        }

    def _memory(self) -> int | None:
        """Most bytes in use at one time so far, on the fullest device of this process."""
        mine = [d for d in self._devices if d.process_index == jax.process_index()]
        stats = [device.memory_stats() or {} for device in mine]
        return max(
            (s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s), default=None
        )
