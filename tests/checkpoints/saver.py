"""Saves that are killed: one process that has imported everything forks a child for each.

    python saver.py '[{"folder": ..., "failpoint": ..., "log": ...}, ...]'

Prints one line of JSON for each scenario: {"code": ...}, negative for a signal. A scenario with
`after_s` has no failpoint: its child saves step after step and is killed that long after the
first. No backend is started before the fork, so that a child is like a fresh process.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp  # noqa: F401

from jaxablate.checkpoints.steps import SaveError, StepStore
from jaxablate.core import failpoints


def arrays_of(step: int) -> dict[str, jax.Array]:
    """What a step holds: every bit depends on the step."""
    return {
        "params/weight": jnp.arange(600, dtype=jnp.float32).reshape(20, 30) * step,
        "params/half": jnp.full((7, 5), step, jnp.bfloat16),
        "opt_state/count": jnp.int32(step),
        "opt_state/empty": jnp.zeros((0, 3)),
        "key": jax.random.PRNGKey(step),
    }


def save(store: StepStore, step: int, **settings) -> None:
    """Save the step's arrays and wait."""
    store.save(step, arrays_of(step), {"step": step}, **settings)
    store.wait()


def child(order: dict, started: int) -> int:
    """One scenario; its exit code."""
    store = StepStore(Path(order["folder"]))
    if "largest" in order:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"], order["largest"]))
        try:
            save(store, 30)
        except SaveError as error:
            return 7 if "file too large" in str(error) else 8
        return 9
    if "failpoint" in order:
        failpoints.arm({order["failpoint"]: "kill"}, log=order["log"])
        save(store, 30, keep={30})
        return 0
    for step in range(30, 10_000):
        save(store, step, keep={step - 1, step})
        os.write(started, b".")
    return 0


def fork(order: dict) -> int:
    """Run a scenario in a child; how it ended."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        os.dup2(2, 1)
        try:
            code = child(order, writes)
        except BaseException:  # noqa: BLE001 - the child must end here
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writes)
    if "after_s" in order:
        os.read(reads, 1)
        time.sleep(order["after_s"])
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(reads)
    return code


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for scenario in json.loads(sys.argv[1]):
        print(json.dumps({"code": fork(scenario)}), flush=True)
