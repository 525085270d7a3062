"""A run killed at any moment goes on bit for bit: of one process, with LoRA, of two processes."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxablate.checkpoints.steps import StepStore
from jaxablate.core.files import read_json
from jaxablate.experiments.tiny import write_tiny_model

HERE = Path(__file__).parent
KILLS = {"full": 20, "lora": 8, "stopped-by-a-rule": 8}
SETTINGS = [
    "mask=prefix_lm",
    "eval_masks=[prefix_lm, causal]",
    "data={folder: samples, name: instructions, max_length: 64, eval_records: 4}",
    "steps=16",
    "rows=2",
    "log_every=3",
    "eval_every=5",
    "schedule={kind: cosine, peak: 1e-3, warmup_steps: 2}",
    "step.compute_dtype=float32",
    "save.every_steps=1",
]
LORA = [
    *SETTINGS,
    "eval_masks=[prefix_lm]",
    "lora={rank: 2, alpha: 4, dropout: 0.1}",
    "microbatches=2",
]
STOPPED_BY_A_RULE = [
    *SETTINGS,
    "eval_masks=[prefix_lm]",
    "optimiser.kind=muon",
    "schedule={kind: constant, peak: 0.3, warmup_steps: 0}",
    "stop={patience_evals: 2}",
    "eval_every=2",
    "frozen=[embedding/*]",
]


class Zygote:
    """A process that forks attempts; see zygote.py."""

    def __init__(self, folder: Path, devices: int = 1):
        self.errors = open(folder / f"stderr-{time.monotonic_ns()}", "w+")  # noqa: SIM115
        flags = os.environ["XLA_FLAGS"].replace("count=8", f"count={devices}")
        self.process = subprocess.Popen(
            [sys.executable, HERE / "zygote.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.cache = str(folder / "compiled")

    def start(self, settings: list[str], join: list | None = None, **more: object) -> int:
        order = {"settings": settings, "join": join, "cache": self.cache, **more}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()["pid"]

    def end(self) -> int:
        return self._answer()["code"]

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        assert line, self.said()
        return json.loads(line)

    def said(self) -> str:
        self.errors.flush()
        return Path(self.errors.name).read_text()[-3000:]

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def results(run: Path) -> dict:
    """Everything that must be equal: metrics, summary, and every bit of the last checkpoint."""
    summary = read_json(run / "summary.json")
    summary.pop("rates")
    store = StepStore(run / "checkpoints")
    saved = {step: store.open(step) for step in store.steps()}
    return {
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "summary": summary,
        "arrays": {step: digests(store, one) for step, one in saved.items()},
        "records": {step: one.record for step, one in saved.items()},
    }


def digests(store: StepStore, saved) -> dict[str, str]:
    found = read_json(saved.path / "manifest.json")["record"]["arrays"]
    assert all(entry["sha256"] for entry in found.values())
    return {name: entry["sha256"] for name, entry in found.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, seed=0)
    return f"checkpoint={folder}"


@pytest.mark.parametrize(
    ("name", "settings"),
    [("full", SETTINGS), ("lora", LORA), ("stopped-by-a-rule", STOPPED_BY_A_RULE)],
    ids=list(KILLS),
)
def test_a_killed_run_equals_one_left_alone(model, tmp_path, name, settings):
    """Most attempts end by SIGKILL, every fourth by SIGTERM, which saves first."""
    chance = random.Random(name)
    with Zygote(tmp_path) as zygote:
        began = time.monotonic()
        zygote.start([model, *settings, f"out={tmp_path / 'whole'}"])
        assert zygote.end() == 0, zygote.said()
        # The others find the programs that this one has compiled, and are faster.
        longest = 0.4 * (time.monotonic() - began)
        wanted = results(tmp_path / "whole")
        kills = stops = runs = 0
        while kills < KILLS[name]:
            runs += 1
            out, code = tmp_path / f"run-{runs}", None
            while code != 0:
                pid = zygote.start([model, *settings, f"out={out}"])
                if kills < KILLS[name]:
                    time.sleep(chance.uniform(0, longest))
                    sent = signal.SIGTERM if (kills + stops) % 4 == 3 else signal.SIGKILL
                    with contextlib.suppress(ProcessLookupError):  # it was faster
                        os.kill(pid, sent)
                code = zygote.end()
                # Before the run has begun SIGTERM simply ends it.
                assert code in (0, 75, -signal.SIGKILL, -signal.SIGTERM), zygote.said()
                kills += code == -signal.SIGKILL
                stops += code in (75, -signal.SIGTERM)
            assert results(out) == wanted
    assert kills == KILLS[name]
    assert stops > 0
    assert wanted["summary"]["stopped"] == (name == "stopped-by-a-rule")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_job_of_two_processes_goes_on_when_either_is_killed(model, tmp_path):
    chance = random.Random(4)
    settings = [model, *SETTINGS, "rows=4", "mesh=data=2,fsdp=2"]
    with Zygote(tmp_path, devices=2) as first, Zygote(tmp_path, devices=2) as second:
        pair = (first, second)

        def attempt(out: Path) -> list[int]:
            address = f"127.0.0.1:{free_port()}"
            return [
                zygote.start([*settings, f"out={out}"], [address, 2, index, HEARTBEAT_S])
                for index, zygote in enumerate(pair)
            ]

        began = time.monotonic()
        attempt(tmp_path / "whole")
        assert [zygote.end() for zygote in pair] == [0, 0], [zygote.said() for zygote in pair]
        duration = 0.5 * (time.monotonic() - began)  # without compiling
        wanted = results_of_several(tmp_path / "whole")
        out, kills = tmp_path / "killed", 0
        while True:
            pids = attempt(out)
            if kills < 2:  # the second process, whose loss is noticed by its silence; the first
                time.sleep(chance.uniform(0.3, 0.6) * duration)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pids[1 - kills], signal.SIGKILL)
            codes = [zygote.end() for zygote in pair]  # the other one ends by itself
            if codes == [0, 0]:
                break
            assert -signal.SIGKILL in codes, [zygote.said() for zygote in pair]
            kills += 1
        assert kills == 2
        assert results_of_several(out) == wanted


HEARTBEAT_S = 10


def results_of_several(run: Path) -> dict:
    """As `results`; a process of several has no digest of whole arrays, so they are read."""
    found = read_json(run / "summary.json")
    store = StepStore(run / "checkpoints")
    saved = store.open(store.steps()[-1])
    entries = read_json(saved.path / "manifest.json")["record"]["arrays"]
    wanted = {
        name: jax.ShapeDtypeStruct(tuple(entry["shape"]), entry["dtype"])
        for name, entry in entries.items()
    }
    arrays = store.restore(saved, wanted)
    return {
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "summary": {name: value for name, value in found.items() if name != "rates"},
        "arrays": {name: np.asarray(array).tobytes() for name, array in arrays.items()},
    }
