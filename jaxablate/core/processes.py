"""Several processes as one program: started once, and agreeing on what the first one says."""

from jaxablate.core.errors import UserError


def start(coordinator: str, count: int, index: int, heartbeat_s: int = 30) -> None:
    """Join a program of `count` processes; to be called before anything else uses jax.

    Args:
        coordinator: "host:port" of process 0; empty lets jax find a cluster (SLURM, TPU pods).
        count: processes in all.
        index: which of them this one is.
        heartbeat_s: silence of one process after which the others end.

    Raises:
        UserError: when they do not come together.
    """
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        if coordinator:
            jax.distributed.initialize(
                coordinator,
                num_processes=count,
                process_id=index,
                heartbeat_timeout_seconds=heartbeat_s,
            )
        else:
            jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat_s)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        where = coordinator or "the cluster"
        raise UserError(f"{where}: the processes did not come together ({reason})") from None


def count() -> int:
    """Processes of this program."""
    import jax

    return jax.process_count()


def devices() -> str:
    """What the program runs on, such as "2 x NVIDIA H200"."""
    import jax

    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def is_first() -> bool:
    """Whether this process is the one that writes."""
    import jax

    return jax.process_index() == 0


def agree(value: int) -> int:
    """The value of process 0, on every process."""
    if count() == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
