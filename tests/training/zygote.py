"""Runs to be killed: one process that has imported everything forks a child for each attempt.

    python zygote.py

Each line on stdin is JSON: {"settings": [...], "join": [coordinator, count, index] or null}. A
child runs that finetuning. The answers are lines of JSON: {"pid": ...} when it has started,
{"code": ...} when it ended, negative for a signal. No backend is started in this process, so that
a child is like a fresh one.
"""

import json
import os
import sys
import traceback
import warnings

import grain  # noqa: F401
import jax
from orbax.checkpoint import v1 as ocp  # noqa: F401

from jaxablate.core import failpoints, processes
from jaxablate.core.config import build
from jaxablate.core.errors import Stopped
from jaxablate.core.settings import read_settings
from jaxablate.training.config import FinetuneConfig
from jaxablate.training.finetune import finetune


def child(order: dict) -> int:
    """One attempt; its exit code."""
    if order.get("failpoints"):
        failpoints.arm(order["failpoints"])
    if order["join"]:
        processes.start(*order["join"])
    jax.config.update("jax_compilation_cache_dir", order["cache"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        finetune(build(FinetuneConfig, read_settings([], order["settings"])))
    except Stopped:
        return 75
    return 0


def main() -> None:
    """Serve orders until stdin ends."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            os.dup2(2, 1)  # stdout is for answers, and gloo writes to it
            try:
                code = child(json.loads(line))
            except BaseException:  # noqa: BLE001 - the child must end here
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(json.dumps({"pid": pid}), flush=True)
        status = os.waitpid(pid, 0)[1]
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
