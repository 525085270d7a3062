"""What trackers hold is what the run wrote, each step once, also after a crash."""

import json
import struct
import sys
import time
import types

import pytest

from jaxablate.core.errors import UserError
from jaxablate.integrations.trackers import TensorBoard, WandB, make_tracker, values
from jaxablate.runs.observer import Observer

SUMMARY = {"stop_reason": "finished", "sentence": "all 30 steps done", "steps_done": 30,
           "steps_planned": 30, "best": {"step": 20, "loss": 1.0, "mask": "causal"}}  # fmt: skip
ALGEBRA = "layers(0-1) & prefix_lm | causal"


def facts(folder, step=0, position=0):
    return {"path": str(folder), "run": folder.name, "step": step, "position": position,
            "steps": 30, "config": {"steps": 30}}  # fmt: skip


def lines(*steps):
    """An evaluation at step 0 and lines of both kinds at the others."""
    found = []
    for step in steps:
        if step:
            found.append({"step": step, "kind": "train", "loss": 2.0 - step / 100, "tokens": 64})
        shared = {"step": step, "kind": "eval", "loss": 2.0 - step / 50, "targets": 9}
        found += [{**shared, "mask": mask, "leaky": False} for mask in ("causal", ALGEBRA)]
    return found


def timing(entry):
    if entry["kind"] == "eval":
        return None
    return {"step": entry["step"], "tokens_per_s": 100.0, "mfu": None}


def feed(tracker, entries):
    for entry in entries:
        tracker.on_metrics(entry, timing(entry))


def test_measurements_are_named_by_kind_and_mask():
    entry = lines(10)[0]
    assert values(entry, timing(entry)) == {
        "train/loss": 1.9,
        "train/tokens": 64,
        "speed/tokens_per_s": 100.0,
    }
    assert values(lines(0)[0]) == {"held_out/causal/loss": 2.0, "held_out/causal/targets": 9}


def test_masks_that_differ_in_an_operator_have_curves_of_their_own():
    names = {next(iter(values({**lines(0)[0], "mask": f"a {o} b"}))) for o in "&|"}
    assert len(names) == 2


def test_an_unknown_tracker_names_the_known():
    with pytest.raises(UserError, match="unknown tracker 'tensorbord'; known: tensorboard, wandb"):
        make_tracker("tensorbord")


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_says_what_to_install(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=rf"{package} is not installed: pip install 'jaxablate\[{name}\]'"
    ):
        make_tracker(name)


def size_on_disk(folder):
    return sum(path.stat().st_size for path in (folder / TensorBoard.FOLDER).iterdir())


def events(folder):
    """Events of all files in order, read by TensorFlow's framing: length, crc, data, crc."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted((folder / TensorBoard.FOLDER).iterdir()):
        raw = path.read_bytes()
        while raw:
            (size,) = struct.unpack("<Q", raw[:8])
            yield Event.FromString(raw[12 : 12 + size])
            raw = raw[16 + size :]


def curves(folder):
    """What TensorBoard shows: a start hides earlier events from its step on."""
    points, texts = [], []
    for event in events(folder):
        if event.HasField("session_log"):
            points = [point for point in points if point[1] < event.step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                points.append((value.tag, event.step, value.simple_value))
            else:
                texts.append((value.tag, value.tensor.string_val[0].decode()))
    return points, texts


def wanted(entries):
    return sorted(
        (name, entry["step"], pytest.approx(value))
        for entry in entries
        for name, value in values(entry, timing(entry)).items()
    )


def test_tensorboard_holds_every_measurement_and_how_it_ended(tmp_path):
    tracker = make_tracker("tensorboard")
    assert isinstance(tracker, Observer)
    tracker.on_begin(facts(tmp_path))
    feed(tracker, lines(0, 10, 20))
    tracker.on_note("hello")
    # They come to the disk while the run goes on.
    deadline = time.monotonic() + 30
    while size_on_disk(tmp_path) < 500 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert size_on_disk(tmp_path) >= 500
    tracker.on_end(SUMMARY)
    assert sorted(curves(tmp_path)[0]) == wanted(lines(0, 10, 20))
    texts = dict(curves(tmp_path)[1])
    assert '"steps": 30' in texts["config/text_summary"]
    assert texts["end/text_summary"] == "all 30 steps done"


@pytest.mark.parametrize(
    ("step", "position", "again"),
    [(10, 5, (20, 30)), (0, 0, (0, 10, 20, 30)), (0, 2, (10, 20, 30))],
    ids=["from step 10", "from the start", "from step 0, evaluated"],
)
def test_tensorboard_shows_no_step_twice_after_a_crash(tmp_path, step, position, again):
    crashed = TensorBoard()
    crashed.on_begin(facts(tmp_path))
    feed(crashed, lines(0, 10, 20))
    resumed = TensorBoard()
    resumed.on_begin(facts(tmp_path, step, position))
    feed(resumed, lines(*again))
    resumed.on_end(SUMMARY)
    crashed.close()  # a killed run's thread does not, but what it has written stays
    assert sorted(curves(tmp_path)[0]) == wanted(lines(0, 10, 20, 30))


class Server:
    """A fake of the module wandb: rows by run id; a row is kept when a later step begins."""

    def __init__(self):
        self.runs, self.begun = {}, []

    def init(self, *, id, name, dir, config, resume):
        assert resume == "allow"
        self.begun.append({"id": id, "name": name, "dir": dir, "config": config})
        rows = self.runs.setdefault(id, {})
        return FakeRun(rows)


class FakeRun:
    def __init__(self, rows):
        self.rows, self.summary, self.finished = rows, {}, 0
        self.step = max(rows) + 1 if rows else 0
        self.row, self.now = {}, None

    def log(self, data, *, step):
        assert step >= self.step, "wandb: step must be monotonically increasing"
        if self.now is not None and step > self.now:
            self.keep()
        self.row.update(data)
        self.now = step

    def keep(self):
        assert self.now not in self.rows, "a step twice"
        self.rows[self.now], self.row, self.step = dict(self.row), {}, self.now + 1

    def finish(self):
        self.keep()
        self.finished += 1


@pytest.fixture
def server(monkeypatch):
    server = Server()
    module = types.ModuleType("wandb")
    module.init = server.init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return server


def rows(entries):
    found = {}
    for entry in entries:
        found.setdefault(entry["step"], {}).update(values(entry, timing(entry)))
    return found


def test_wandb_gets_one_row_a_step_and_how_it_ended(server, tmp_path):
    tracker = make_tracker("wandb")
    assert isinstance(tracker, Observer)
    tracker.on_begin(facts(tmp_path))
    run = tracker._run
    feed(tracker, lines(0, 10))
    tracker.on_note("hello")
    tracker.on_end(SUMMARY)
    tracker.close()
    assert server.runs == {server.begun[0]["id"]: rows(lines(0, 10))}
    assert server.begun[0]["config"] == {"steps": 30}
    assert (server.begun[0]["name"], server.begun[0]["dir"]) == (tmp_path.name, str(tmp_path))
    assert run.summary["stop_reason"] == "finished"
    assert run.finished == 1


def test_wandb_goes_on_in_the_same_run_without_a_step_twice(server, tmp_path):
    crashed = WandB()
    crashed.on_begin(facts(tmp_path))
    feed(crashed, lines(0, 10, 20))  # the row of step 20 is lost in the crash
    resumed = WandB()
    resumed.on_begin(facts(tmp_path, 0, 2))
    feed(resumed, lines(10, 20, 30))
    resumed.on_end(SUMMARY)
    assert list(server.runs.values()) == [rows(lines(0, 10, 20, 30))]


def test_folders_of_one_name_are_different_runs(server, tmp_path):
    for parent in ("a", "b"):
        folder = tmp_path / parent / "prefix"
        folder.mkdir(parents=True)
        WandB().on_begin(facts(folder))
        assert json.loads((folder / WandB.FILE).read_text()).keys() == {"id"}
    assert len(server.runs) == 2
