import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxablate
from jaxablate.checkpoints import manifest
from jaxablate.checkpoints.step_cleanup import owner_name, partial_path
from jaxablate.checkpoints.step_folder import name_of
from jaxablate.checkpoints.steps import SaveConfig, SaveError, StepStore
from jaxablate.core import failpoints
from jaxablate.core.errors import UserError
from jaxablate.core.mesh import make_mesh, parse_mesh
from jaxablate.runs.lock import LockedError
from tests.checkpoints.saver import arrays_of, save

ROOT = Path(jaxablate.__file__).parents[1]

# Where a save can be hit -> whether the new step counts then.
POINTS = {
    "save.begin": False,
    "save.data_done": False,
    "save.digest_done": False,
    "save.before_commit": False,
    "save.after_commit": True,
    "save.before_prune": True,
    "save.after_prune": True,
}


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    failpoints.arm({})


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Steps 10 and 20; only ever read."""
    folder = tmp_path_factory.mktemp("steps") / "checkpoints"
    store = StepStore(folder)
    save(store, 10)
    save(store, 20)
    return folder


@pytest.fixture
def folder(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "checkpoints"))


def like(arrays):
    return {path: jax.ShapeDtypeStruct(a.shape, a.dtype) for path, a in arrays.items()}


def assert_holds(store, saved, step):
    """The step's own bits and record, and nothing else."""
    wanted = arrays_of(step)
    found = store.restore(saved, like(wanted))
    assert (saved.step, saved.record) == (step, {"step": step})
    assert found.keys() == wanted.keys()
    for path, array in wanted.items():
        assert (found[path].shape, found[path].dtype) == (array.shape, array.dtype), path
        assert np.asarray(found[path]).tobytes() == np.asarray(array).tobytes(), path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip(path, random):
    raw = bytearray(path.read_bytes())
    raw[random.integers(len(raw))] ^= 1 << random.integers(8)
    path.write_bytes(raw)


def files_of(step):
    return sorted(path for path in step.rglob("*") if path.is_file())


def test_a_step_comes_back_bit_for_bit_with_its_record(tmp_path):
    store = StepStore(tmp_path / "run" / "checkpoints")
    assert store.steps() == []
    assert store.newest() is None
    save(store, 20)
    assert store.steps() == [20]
    saved = store.newest()
    assert saved.path == store.folder / "step-00000020"
    assert_holds(store, saved, 20)
    assert_holds(store, store.open(20), 20)
    assert names(store.folder) == ["step-00000020"]
    body = json.loads((saved.path / "manifest.json").read_text())["record"]
    assert body["arrays"].keys() == arrays_of(20).keys()
    assert all(len(entry["sha256"]) == 64 for entry in body["arrays"].values())


@pytest.mark.parametrize(
    "value",
    [
        jnp.array(True),
        jnp.int8(-3),
        jnp.zeros((0,), jnp.uint32),
        jnp.float32(np.nan),
        jnp.array([[-0.0, np.inf, 1e-45]], jnp.float32),
        jnp.full((3,), 1.001, jnp.float16),
    ],
)
def test_any_value_comes_back_also_when_it_is_alone(tmp_path, value):
    store = StepStore(tmp_path)
    store.save(0, {"a/b": value}, {})
    store.wait()
    found = store.restore(store.newest(), like({"a/b": value}))["a/b"]
    assert found.dtype == value.dtype
    assert np.asarray(found).tobytes() == np.asarray(value).tobytes()


@pytest.mark.parametrize("mesh", ["fsdp=2,tensor=4", "fsdp=8", ""])
def test_a_step_comes_back_on_another_mesh(tmp_path, mesh):
    def place(spec, *axes):
        sharding = jax.sharding.NamedSharding(spec, jax.sharding.PartitionSpec(*axes))
        return sharding

    one = make_mesh(parse_mesh("fsdp=4,tensor=2"))
    wide, key = jnp.arange(64.0 * 16).reshape(64, 16), jax.random.PRNGKey(3)
    arrays = {
        "w": jax.device_put(wide, place(one, "fsdp", "tensor")),
        "key": jax.device_put(key, place(one)),
        "none": jax.device_put(jnp.zeros((0, 8)), place(one, None, "fsdp")),
    }
    store = StepStore(tmp_path)
    store.save(1, arrays, {})
    wanted = like(arrays)
    if mesh:
        other = make_mesh(parse_mesh(mesh))
        places = {"w": place(other, "tensor", "fsdp"), "key": place(other), "none": place(other)}
        wanted = {
            path: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=places[path])
            for path, s in wanted.items()
        }
    store.wait()
    found = store.restore(store.newest(), wanted)
    assert np.array_equal(found["w"], wide)
    assert np.array_equal(found["key"], key)
    for path, shape in wanted.items():
        devices = 8 if mesh else 1
        assert len(found[path].devices()) == devices
        assert shape.sharding is None or found[path].sharding == shape.sharding


def test_arrays_may_be_overwritten_as_soon_as_save_returns(tmp_path):
    failpoints.arm({"save.begin": "sleep:0.3"}, log=tmp_path / "log")
    store = StepStore(tmp_path / "c")
    arrays = arrays_of(5)
    step = jax.jit(lambda tree: jax.tree.map(lambda a: a + 1, tree), donate_argnums=0)
    store.save(5, arrays, {"step": 5})
    for _ in range(3):
        arrays = step(arrays)
    jax.block_until_ready(arrays)
    assert store.steps() == []  # the writing goes on beside this
    store.wait()
    assert (tmp_path / "log").read_text() == "save.begin\n"
    assert_holds(store, store.newest(), 5)


def test_the_record_is_what_it_was_at_the_call(tmp_path):
    failpoints.arm({"save.begin": "sleep:0.2"})
    store, record = StepStore(tmp_path), {"progress": {"loss": [1.0]}}
    store.save(1, arrays_of(1), record)
    record["progress"]["loss"].append(2.0)
    store.wait()
    assert store.newest().record == {"progress": {"loss": [1.0]}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.save(2, arrays_of(2), {"loss": float("nan")})


def test_a_save_waits_for_the_one_before(tmp_path):
    failpoints.arm({"save.before_commit": "sleep:0.2"})
    store = StepStore(tmp_path)
    store.save(1, arrays_of(1), {"step": 1})
    store.save(2, arrays_of(2), {"step": 2})
    assert store.steps() == [1]
    store.wait()
    assert store.steps() == [1, 2]


def test_a_saved_step_is_never_replaced(folder):
    before = (folder / "step-00000020" / "manifest.json").read_bytes()
    store = StepStore(folder)
    with pytest.raises(SaveError, match="is there already"):
        store.save(20, arrays_of(3), {})
    store.wait()
    assert (folder / "step-00000020" / "manifest.json").read_bytes() == before
    assert names(folder) == ["step-00000010", "step-00000020"]


def test_other_arrays_than_wanted_are_refused_by_name(pristine):
    store, good = StepStore(pristine), like(arrays_of(20))
    saved = store.open(20)
    wanted = {**good, "params/more": good["key"]}
    del wanted["key"]
    with pytest.raises(UserError, match=r"missing \['params/more'\], unexpected \['key'\]"):
        store.restore(saved, wanted)
    shape = jax.ShapeDtypeStruct((5, 7), jnp.bfloat16)
    with pytest.raises(UserError, match=r"'params/half' is bfloat16 \[7, 5\], wanted .*\[5, 7\]"):
        store.restore(saved, {**good, "params/half": shape})
    dtype = jax.ShapeDtypeStruct((7, 5), jnp.float32)
    with pytest.raises(UserError, match=r"is bfloat16 \[7, 5\], wanted float32"):
        store.restore(saved, {**good, "params/half": dtype})


@pytest.mark.parametrize(
    ("keep", "left"),
    [(None, [10, 20, 30]), ((), [30]), ({10}, [10, 30]), ([20, 30, 99], [20, 30])],
)
def test_what_is_not_to_be_kept_is_removed(folder, keep, left):
    store = StepStore(folder)
    save(store, 30, keep=keep)
    assert store.steps() == left
    assert names(folder) == [name_of(step) for step in left]
    assert_holds(store, store.newest(max_fallback=0), 30)


def test_nothing_is_removed_before_the_new_step_is_durable(folder, monkeypatch):
    done = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor):
        done.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def note_rename(self, target):
        done.append(("rename", str(self), str(target)))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    save(StepStore(folder), 30, keep={30})
    new = folder / "step-00000030"
    commit = next(i for i, event in enumerate(done) if event[-1] == str(new))
    hidden = Path(done[commit][1])
    synced = {event[1] for event in done[:commit] if event[0] == "fsync"}
    assert {str(hidden / path.relative_to(new)) for path in new.rglob("*")} <= synced
    assert str(hidden) in synced
    assert done[commit + 1] == ("fsync", str(folder))
    removed = [i for i, event in enumerate(done) if ".removed-" in str(event[-1])]
    assert len(removed) == 2
    assert min(removed) > commit + 1


def test_any_flipped_bit_is_found_and_the_file_named(folder):
    random = np.random.default_rng(20)
    store = StepStore(folder)
    step = folder / "step-00000020"
    files = [path for path in files_of(step) if path.stat().st_size]
    sizes = np.array([path.stat().st_size for path in files], float)
    by_size = random.choice(len(files), 25, p=sizes / sizes.sum())
    evenly = random.permutation(np.arange(25) % len(files))
    injected = 0
    for number in (*by_size, *evenly):
        path = files[number]
        good = path.read_bytes()
        flip(path, random)
        with pytest.raises(UserError, match=re.escape(str(path))):
            store.open(20)
        path.write_bytes(good)
        injected += 1
    assert injected == 50
    assert {*by_size, *evenly} == set(range(len(files)))
    assert_holds(store, store.open(20), 20)


@pytest.mark.parametrize("damage", ["halved", "emptied", "zeroed", "deleted", "longer", "foreign"])
def test_every_damaged_file_is_found_and_named(folder, damage):
    injected = 0
    for path in files_of(folder / "step-00000020"):
        good = path.read_bytes()
        half, zeros = good[: len(good) // 2], bytes(len(good))
        kinds = {"halved": half, "emptied": b"", "zeroed": zeros, "longer": good + b"\n"}
        found = path
        if damage == "deleted":
            path.unlink()
        elif damage == "foreign":
            found = path.with_name("notes.txt")
            found.write_text("")
        elif kinds[damage] == good:  # a marker file that is empty already
            continue
        else:
            path.write_bytes(kinds[damage])
        injected += 1
        with pytest.raises(UserError, match=re.escape(str(found))):
            StepStore(folder).open(20)
        (found if damage == "foreign" else path).unlink(missing_ok=True)
        path.write_bytes(good)
    assert injected > 5


def test_a_step_under_the_name_of_another_is_refused(folder):
    shutil.rmtree(folder / "step-00000010")
    (folder / "step-00000020").rename(folder / "step-00000010")
    with pytest.raises(UserError, match="is of step 20, not of step 10"):
        StepStore(folder).open(10)


def test_arrays_that_read_back_differently_are_refused_although_the_files_are_right(folder):
    path = folder / "step-00000020" / "manifest.json"
    record = json.loads(path.read_text())["record"]
    record["arrays"]["params/half"]["sha256"] = "0" * 64
    path.write_text(manifest._canonical(record))
    store = StepStore(folder)
    with pytest.raises(UserError, match="array 'params/half' is not what was written"):
        store.restore(store.open(20), like(arrays_of(20)))


def test_a_damaged_step_is_set_aside_and_the_one_before_taken(folder, caplog):
    store, random = StepStore(folder), np.random.default_rng(1)
    for number in (1, 2):
        bad = files_of(folder / "step-00000020")[0]
        flip(bad, random)
        kept = bad.read_bytes()
        assert_holds(store, store.newest(), 10)
        aside = folder / f"step-00000020.bad-{number}"
        assert (aside / bad.relative_to(folder / "step-00000020")).read_bytes() == kept
        assert store.steps() == [10]
        assert str(bad) in caplog.text
        assert f"kept as {aside.name}, going back to step 10" in caplog.text
        caplog.clear()
        save(store, 20, keep={10})  # the run goes on and comes there again
    assert_holds(store, store.newest(max_fallback=0), 20)
    assert caplog.text == ""
    save(store, 30, keep=())
    assert names(folder) == ["step-00000020.bad-1", "step-00000020.bad-2", "step-00000030"]


@pytest.mark.parametrize(
    ("damaged", "max_fallback", "message"),
    [
        ((10, 20), 1, "the newest 2 saved steps are damaged, and at most 1 may be passed over"),
        ((20,), 0, "the newest 1 saved steps are damaged, and at most 0"),
        ((10, 20), 2, "no earlier saved step is left to go back to"),
    ],
)
def test_further_back_than_allowed_is_refused_and_nothing_touched(
    folder, damaged, max_fallback, message
):
    random = np.random.default_rng(2)
    for step in damaged:
        flip(bad := files_of(folder / name_of(step))[0], random)
    before = {path: path.read_bytes() for path in files_of(folder)}
    for _ in range(2):
        with pytest.raises(UserError, match=message) as error:
            StepStore(folder).newest(max_fallback=max_fallback)
        assert str(folder / "step-00000020") in str(error.value)
    assert {path: path.read_bytes() for path in files_of(folder)} == before
    assert bad.exists()


def test_a_sole_step_that_is_damaged_is_kept_and_the_run_does_not_start_anew(tmp_path):
    store = StepStore(tmp_path)
    save(store, 10)
    flip(bad := files_of(tmp_path)[0], np.random.default_rng(0))
    with pytest.raises(UserError, match="no earlier saved step") as error:
        store.newest()
    assert str(bad) in str(error.value)
    assert names(tmp_path) == ["step-00000010"]


@pytest.mark.parametrize("point", POINTS)
def test_a_full_disk_is_told_and_costs_no_earlier_step(folder, tmp_path, point):
    failpoints.arm({point: "raise:OSError:28"}, log=tmp_path / "log")
    store = StepStore(folder)
    store.save(30, arrays_of(30), {"step": 30}, keep={30})
    with pytest.raises(SaveError, match=r"step-00000030: could not be saved \(no space left"):
        store.wait()
    assert (tmp_path / "log").read_text() == f"{point}\n"
    store.wait()  # told once
    assert all(re.fullmatch(r"step-\d+", name) for name in names(folder))
    if not POINTS[point]:
        assert store.steps() == [10, 20]
        assert_holds(store, store.newest(max_fallback=0), 20)
    else:
        assert_holds(store, store.newest(max_fallback=0), 30)
    failpoints.arm({})
    save(store, 40, keep={40})
    assert names(folder) == ["step-00000040"]
    assert_holds(store, store.newest(max_fallback=0), 40)


def test_the_failure_of_a_save_is_raised_by_the_next_one(folder):
    failpoints.arm({"save.data_done": "raise:OSError:30@1"})
    store = StepStore(folder)
    store.save(30, arrays_of(30), {"step": 30})
    with pytest.raises(SaveError, match=r"step-00000030: .*read-only file system"):
        store.save(40, arrays_of(40), {"step": 40})
    assert store.steps() == [10, 20]
    save(store, 40)
    assert store.steps() == [10, 20, 40]


def test_a_folder_that_cannot_be_made_is_a_failed_save(tmp_path):
    (tmp_path / "file").write_text("")
    store = StepStore(tmp_path / "file" / "checkpoints")
    with pytest.raises(SaveError, match="not a directory"):
        save(store, 1)


def test_a_hung_save_is_told_within_its_time(folder):
    failpoints.arm({"save.data_done": "sleep:4"})
    store = StepStore(folder, timeout_s=0.3)
    began = time.monotonic()
    store.save(30, arrays_of(30), {"step": 30})
    for _ in range(2):
        with pytest.raises(SaveError, match=r"step-00000030: was not saved within 0\.3 s"):
            store.wait()
    with pytest.raises(SaveError, match="was not saved within"):
        store.save(40, arrays_of(40), {"step": 40})
    assert time.monotonic() - began < 4
    assert store.steps() == [10, 20]


def test_who_lost_the_run_commits_nothing_and_removes_nothing(folder):
    lost = []

    def fence():
        if lost:
            raise LockedError("another owns it")

    store = StepStore(folder, fence=fence)
    assert store.newest().step == 20
    store.save(30, arrays_of(30), {"step": 30}, keep={30})
    store.wait()
    lost.append(True)
    store.save(40, arrays_of(40), {"step": 40}, keep={40})
    with pytest.raises(LockedError, match="another owns it"):
        store.wait()
    with pytest.raises(LockedError):
        store.newest()
    assert names(folder) == ["step-00000030"]


def test_a_process_that_is_not_the_writer_changes_nothing(folder):
    flip(files_of(folder / "step-00000020")[0], np.random.default_rng(0))
    (folder / ".step-00000030.partial-all-0-00000000").mkdir()
    before = names(folder)
    reader = StepStore(folder, is_writer=False, fence=lambda: None)
    assert reader.newest().step == 10
    assert names(folder) == before


def test_what_dead_processes_left_is_removed_and_what_live_ones_write_is_not(folder):
    host = os.uname().nodename
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    step = folder / "step-00000030"
    gone = [f"{host}-{dead.pid}-0000000a"]
    others = [f"{host}-{os.getppid()}-0000000b", "elsewhere-7-0000000c", "all-0-0000000d"]
    for owner in gone + others:
        partial_path(step, owner).mkdir()
        (folder / f".step-00000001.removed-{owner}").mkdir()
    (folder / ".other").mkdir()
    StepStore(folder).newest()
    assert [name for name in names(folder) if gone[0] in name] == []
    for owner in others:
        assert partial_path(step, owner).exists()
    StepStore(folder, fence=lambda: None).newest()  # holds the run's lock: all others are gone
    assert names(folder) == [".other", "step-00000010", "step-00000020"]


def test_owners_differ_between_processes_and_between_stores():
    assert owner_name(7, shared=True) == "all-0-00000007"
    assert owner_name(7, shared=False) == f"{os.uname().nodename}-{os.getpid()}-00000007"


@pytest.mark.parametrize("field", ["every_steps", "keep_last", "keep_every"])
def test_settings_out_of_range_are_refused(field):
    least = 0 if field == "keep_every" else 1
    SaveConfig(**{field: least})
    with pytest.raises(UserError, match=f"save {field} must be at least {least}, got {least - 1}"):
        SaveConfig(**{field: least - 1})


def run_saver(scenarios):
    """How each scenario of saver.py ended."""
    command = [sys.executable, str(ROOT / "tests" / "checkpoints" / "saver.py")]
    ended = subprocess.run(
        [*command, json.dumps(scenarios)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line)["code"] for line in ended.stdout.splitlines()], ended.stderr


def test_a_save_killed_anywhere_leaves_a_newest_step_that_is_whole(pristine, tmp_path):
    random = np.random.default_rng(7)
    scenarios = [
        {"folder": str(tmp_path / point), "failpoint": point, "log": str(tmp_path / f"{point}.log")}
        for point in POINTS
    ]
    scenarios += [
        {"folder": str(tmp_path / f"time-{n}"), "after_s": float(random.uniform(0, 0.2))}
        for n in range(4)
    ]
    for scenario in scenarios:
        shutil.copytree(pristine, scenario["folder"])
    codes, errors = run_saver(scenarios)
    assert codes == [-9] * len(scenarios), errors
    for scenario in scenarios:
        store = StepStore(Path(scenario["folder"]))
        left = store.steps()
        saved = store.newest(max_fallback=0)
        assert_holds(store, saved, left[-1])
        if point := scenario.get("failpoint"):
            assert Path(scenario["log"]).read_text() == f"{point}\n"
            assert saved.step == (30 if POINTS[point] else 20)
        for step in left:
            assert_holds(store, store.open(step), step)
        assert names(store.folder) == [name_of(step) for step in left]
    save(store, saved.step + 1, keep=())
    assert names(store.folder) == [name_of(saved.step + 1)]


def test_a_file_that_may_not_grow_is_a_failed_save(pristine, tmp_path):
    folder = Path(shutil.copytree(pristine, tmp_path / "c"))
    codes, errors = run_saver([{"folder": str(folder), "largest": 1500}])
    assert codes == [7], errors
    assert "ERROR" not in errors  # none of Orbax's threads prints its trace
    assert "SignalingThread" not in errors
    assert names(folder) == ["step-00000010", "step-00000020"]


def test_two_processes_go_on_from_a_step_and_save_and_restore_together(folder):
    program = [sys.executable, str(ROOT / "tests" / "checkpoints" / "two_savers.py")]
    partial_path(folder / name_of(30), "all-0-0000000a").mkdir()  # as killed ones leave
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    both = [
        subprocess.Popen(
            [*program, coordinator, str(index), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for index in (0, 1)
    ]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert names(folder) == ["step-00000022"]


def test_every_failpoint_of_saving_has_its_crash_test():
    source = (ROOT / "jaxablate" / "checkpoints").glob("*.py")
    found = {
        name for path in source for name in re.findall(r'failpoint\("([^"]+)"\)', path.read_text())
    }
    assert found == set(POINTS)
