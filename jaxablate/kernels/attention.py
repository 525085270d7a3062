"""`attention(q, k, v, lowered)`: picks the first kernel that serves the mask, and can say why."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from jaxablate.core.errors import UserError, unknown
from jaxablate.kernels import cudnn, decode, reference, xla
from jaxablate.kernels.call import Call
from jaxablate.masks.lower import Lowered


def _serves_everything(call: Call) -> None:
    del call


class Kernel(NamedTuple):
    """A way to compute attention: why it declines a call (None: it serves), and how it runs."""

    run: Callable[..., Array]
    declines: Callable[[Call], str | None] = _serves_everything


KERNELS = {
    "reference": Kernel(reference.run),
    "decode": Kernel(decode.run, decode.declines),
    "cudnn": Kernel(cudnn.run, cudnn.declines),
    "cudnn_dense": Kernel(cudnn.run_dense, cudnn.declines_dense),
    "xla": Kernel(xla.run),
}
# Tried in this order; the reference is a definition to test against, not a choice.
LADDER = ("decode", "cudnn", "cudnn_dense", "xla")


@dataclass(frozen=True)
class Choice:
    """The kernel taken for a mask, and why each one before it declined."""

    kernel: str
    kind: str
    declined: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {"kernel": self.kernel, "mask_kind": self.kind, "declined": dict(self.declined)}


def choose(call: Call, *, kernel: str = "auto") -> Choice:
    """The kernel for a call.

    Raises:
        UserError: for an unknown kernel, or for a named kernel that declines.
    """
    if kernel not in (*KERNELS, "auto"):
        raise unknown("kernel", kernel, (*KERNELS, "auto"))
    declined = []
    for name in LADDER if kernel == "auto" else (kernel,):
        reason = KERNELS[name].declines(call)
        if reason is None:
            return Choice(name, call.lowered.kind, tuple(declined))
        declined.append((name, reason))
    raise UserError(f"kernel {kernel!r} declines: {declined[-1][1]}")


def attention(
    q_BTNH: Float[Array, "B T N H"],
    k_BSKH: Float[Array, "B S K H"],
    v_BSKH: Float[Array, "B S K H"],
    lowered: Lowered,
    *,
    scale: float,
    kernel: str = "auto",
    platform: str | None = None,
) -> Float[Array, "B T N H"]:
    """Grouped-query attention under a lowered mask, by the first kernel that serves it."""
    call = Call.of(lowered, q_BTNH, k_BSKH, platform or default_platform())
    choice = choose(call, kernel=kernel)
    return KERNELS[choice.kernel].run(q_BTNH, k_BSKH, v_BSKH, lowered, scale=scale)


@functools.cache
def default_platform() -> str:
    """The platform that programs are compiled for: "cpu", "gpu" or "tpu"."""
    return jax.default_backend()
