"""Records: rows → series, the run directory's files, and what survives a kill, a full disk or a damaged file."""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from numerics.errors import InputRefused
from numerics.records import ProcessRecord, Run
from numerics.run_directory import MemoryRecords, RunDirectory

ROOT = Path(__file__).parents[2]
PROCESSES = ("discrete", "central")


def row(process: str, t: int, n: int = 5) -> dict[str, object]:
    """A row whose every number is a function of its process and step."""
    base = t + 1000 * PROCESSES.index(process)
    return {
        "loss": 1.0 / (1 + base),
        "critical": t % 4,
        "eigenvalues": base + np.arange(t % 4, 0, -1.0),
        "cost/grad": float(t),
        "weights_series": np.sin(np.arange(n) + base),
        "states_series/nu": np.cos(np.arange(n) + base),
    }


def record(recorder, first: int, stop: int, n: int = 5) -> None:
    for t in range(first, stop):
        for process in PROCESSES:
            recorder.append(process, [row(process, t, n)])


def assert_rows(run: Run, steps: int, processes=PROCESSES, n: int = 5) -> None:
    for process in processes:
        found = run[process]
        assert found.steps == steps
        for t in range(steps):
            for name, value in row(process, t, n).items():
                stored = found[name][t]
                filled = stored if np.ndim(stored) == 0 else stored[: np.size(value)]
                np.testing.assert_array_equal(filled, value)
                assert np.ndim(stored) == 0 or np.isnan(stored[np.size(value) :]).all()


@pytest.fixture(params=["memory", "directory"])
def recorder(request, tmp_path):
    return MemoryRecords() if request.param == "memory" else RunDirectory.create(tmp_path / "run")


def sentence(refusal: pytest.ExceptionInfo[BaseException], *words: str) -> None:
    """The message is one sentence, and says these words."""
    message = str(refusal.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message, message
    for word in words:
        assert word in message


# ---- rows → series, the same in memory and on disk


def test_round_trip(recorder):
    record(recorder, 0, 7)
    recorder.commit(5)
    assert_rows(recorder.read(), 7)
    recorder.finish({"central": {"weights": np.arange(3), "states": {"nu": np.ones(3)}, "t": 7}})
    run = recorder.read()
    assert_rows(run, 7)
    assert run.complete and run.steps_done == 7
    central = run["central"]
    assert central.weights.tolist() == [0, 1, 2] and central.states["nu"].tolist() == [1, 1, 1] and central.t == 7
    assert central.eigenvalues.shape == (7, 3) and central.critical.dtype.kind == "i"
    assert list(run) == list(PROCESSES) and list(central.series)[:3] == ["loss", "critical", "eigenvalues"]


def test_missing_values_become_nan(recorder):
    recorder.append("midpoint", [{"loss": 1.0, "critical": 2}, {"loss": 2.0, "eigenvalues": np.array([3.0])}])
    recorder.commit(2)
    recorder.append("midpoint", {"loss": 3.0, "eigenvalues": np.array([4.0, 1.0])})
    recorder.finish()
    midpoint = recorder.read()["midpoint"]
    np.testing.assert_array_equal(midpoint.critical, [2, np.nan, np.nan])
    np.testing.assert_array_equal(midpoint.eigenvalues, [[np.nan, np.nan], [3, np.nan], [4, 1]])
    assert midpoint.loss.tolist() == [1, 2, 3]


def test_rows_without_width_and_other_dtypes(recorder):
    values = {"eigenvalues": np.zeros(0), "half": np.float32(0.5), "flag": True, "output": np.ones((2, 3), np.float32)}
    recorder.append("stable", [values, values])
    recorder.finish({"stable": {"scalar": 2.5}})
    stable = recorder.read()["stable"]
    assert stable.eigenvalues.shape == (2, 0) and stable.output.shape == (2, 2, 3)
    assert stable.half.dtype == stable.output.dtype == np.float32
    assert stable.flag.dtype == bool and stable.flag.all() and str(stable.scalar) == "2.5"


def test_rows_are_copied(recorder):
    w = np.zeros(2)
    recorder.append("discrete", [{"weights_series": w}])
    w += 1
    assert recorder.read()["discrete"].weights_series.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"loss": "low"}], ["'loss'", "str"]),
        ([{"loss": None}], ["'loss'", "NoneType"]),
        ([{"loss": [[1], [1, 2]]}], ["'loss'", "list"]),
        ([{"loss": 1j}], ["'loss'", "complex"]),
        ([{"a//b": 1.0}], ["a//b", "slashes"]),
        ([{"cost": 1.0, "cost/grad": 1.0}], ["'cost'", "rename"]),
        ([{"loss": 1.0}, {"loss": np.ones(2)}], ["'loss'", "0 dimensions"]),
    ],
)
def test_refused_rows(recorder, rows, words):
    with pytest.raises(InputRefused) as refusal:
        recorder.append("discrete", rows)
    sentence(refusal, *words)
    recorder.append("discrete", [{"fine": 1.0}])
    assert recorder.read()["discrete"].names == ("fine",)


def test_refused_process_name_and_finals(recorder):
    with pytest.raises(InputRefused) as refusal:
        recorder.append("a/b", [{"loss": 1.0}])
    sentence(refusal, "process name", "'a/b'")
    recorder.append("central", [{"loss": 1.0}])
    with pytest.raises(InputRefused) as refusal:
        recorder.finish({"central": {"loss": 2.0}})
    sentence(refusal, "'loss'", "loss_series")
    with pytest.raises(InputRefused) as refusal:
        recorder.finish({"central": {"weights": "many"}})
    sentence(refusal, "'weights'")


def test_failure_is_noted(recorder):
    record(recorder, 0, 3)
    recorder.fail("the loss became infinite")
    run = recorder.read()
    assert not run.complete and run.manifest["status"] == "failed" and "infinite" in run.manifest["reason"]
    assert_rows(run, 3)
    assert "failed" in repr(run)


# ---- what a run offers


@pytest.fixture
def run():
    records = MemoryRecords({"config": {"steps": 4}})
    record(records, 0, 4)
    records.append("stable", [{"distance/central": 0.5 * t, "observables/accuracy": 0.25 * t} for t in range(4)])
    return records.read()


def test_distances(run):
    difference = run["discrete"].weights_series - run["central"].weights_series
    np.testing.assert_allclose(run.distance("discrete", "central"), np.sqrt((difference**2).sum(axis=1)), rtol=1e-14)
    assert run.distance("central", "stable").tolist() == run.distance("stable", "central").tolist() == [0, 0.5, 1, 1.5]
    with pytest.raises(InputRefused) as refusal:
        run.distance("stable", "discrete")
    sentence(refusal, "weights_series", "'stable'")
    with pytest.raises(InputRefused) as refusal:
        run.distance("rod", "discrete")
    sentence(refusal, "'rod'", "discrete, central, stable")


def test_distance_of_unlike_weights():
    run = Run({name: ProcessRecord(name, {"weights_series": np.zeros((2, n))}) for name, n in (("a", 2), ("b", 3))})
    with pytest.raises(InputRefused) as refusal:
        run.distance("a", "b")
    sentence(refusal, "(2,)", "(3,)")


def test_attributes(run):
    central = run["central"]
    assert central.cost["grad"].tolist() == [0, 1, 2, 3] and central["cost/grad"] is central.cost["grad"]
    assert central.states == {} and central.observables == {} and "loss" in central and "loss" in dir(central)
    assert np.isnan(central.predicted_loss).all() and len(central.predicted_loss) == 4
    assert list(run.observables) == ["stable"] and run.observables["stable"]["accuracy"].tolist() == [
        0,
        0.25,
        0.5,
        0.75,
    ]
    with pytest.raises(AttributeError, match=r"no 'threshold'; it has loss, critical, eigenvalues"):
        _ = central.threshold
    with pytest.raises(InputRefused):
        central["threshold"]


def test_representations(run):
    assert repr(run) == "<Run discrete, central, stable: 4 of 4 steps, running, not complete>"
    assert "central: 4 steps; loss" in repr(run["central"])
    assert repr(Run({})) == "<Run without processes: 0 steps, complete>"


def test_csv(run, tmp_path):
    path = run.to_csv(tmp_path / "scalars.csv")
    head, *lines = path.read_text().splitlines()
    assert head.split(",")[:3] == ["step", "discrete/loss", "discrete/critical"] and len(lines) == 4
    column = head.split(",").index("central/loss")
    assert [float(line.split(",")[column]) for line in lines] == run["central"].loss.tolist()
    with pytest.raises(InputRefused) as refusal:
        run.to_csv(tmp_path / "missing" / "scalars.csv")
    sentence(refusal, "missing")


# ---- the directory


def test_files_are_ordinary(tmp_path):
    directory = RunDirectory.create(tmp_path / "deep" / "run", {"config": {"lr": np.float64(0.1)}, "seed": 3})
    with h5py.File(directory.path / "results.h5") as file:
        assert list(file) == []
    record(directory, 0, 6)
    directory.finish({"central": {"weights": np.ones(2), "states": {"nu": np.ones(2)}}})
    manifest = json.loads((directory.path / "manifest.json").read_text())
    assert manifest["config"] == {"lr": 0.1} and manifest["status"] == "complete" and manifest["seed"] == 3
    assert {"versions", "git_revision", "command"} <= set(manifest)
    with h5py.File(directory.path / "results.h5") as file:
        central = file["central"]
        assert {"loss", "eigenvalues", "weights_series", "weights"} <= set(central)
        assert central["loss"][2] == row("central", 2)["loss"] and central["cost/grad"].shape == (6,)
        assert central["eigenvalues"].shape == (6, 3) and np.isnan(central["eigenvalues"][0]).all()
    for part in directory.path.rglob("*"):
        assert not part.name.endswith(".tmp")


def test_results_alone_are_a_run(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", {"long": ["x"] * 40_000})
    record(directory, 0, 4)
    directory.finish({"central": {"weights": np.ones(2)}})
    alone = Run.load((directory.path / "results.h5").rename(tmp_path / "kept.h5"))
    whole = Run.load(directory.path)
    for run in (alone, whole):
        assert run.complete and run["central"].weights.tolist() == [1, 1]
        assert_rows(run, 4)
    assert "results.h5" in whole.warnings[0] and not alone.warnings


def test_results_are_rebuilt_only_when_due(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", results_every=3600)
    record(directory, 0, 2)
    directory.commit(2)
    with h5py.File(directory.path / "results.h5") as file:
        assert list(file) == []
    directory = RunDirectory.create(tmp_path / "other")
    directory._results_due = 0
    record(directory, 0, 2)
    directory.commit(2)
    with h5py.File(directory.path / "results.h5") as file:
        assert set(file) == set(PROCESSES)
    before = (directory.path / "results.h5").stat().st_ino
    directory._results_due = 0
    directory.commit(2, {"again": True})
    assert (directory.path / "results.h5").stat().st_ino == before


def test_half_written_and_resumed(tmp_path):
    path = tmp_path / "run"
    first = RunDirectory.create(path, {"config": {"steps": 9}})
    record(first, 0, 3)
    first.commit(3, {"w": np.arange(3.0)})
    record(first, 3, 6)
    first.commit(5, {"w": np.arange(5.0)})  # row 5 stays in the buffer
    record(first, 6, 7)
    first.commit(7)  # a chunk without a checkpoint
    half = Run.load(path)
    assert not half.complete and half.steps_done == 7 and "7 of 9 steps" in repr(half)
    assert_rows(half, 7)

    second = RunDirectory.open(path)
    assert_rows(Run.load(path), 7)  # opening changes nothing
    step, state = second.latest_checkpoint()
    assert step == 5 and state["w"].tolist() == [0, 1, 2, 3, 4]
    record(second, 5, 9)
    assert_rows(second.read(), 9)
    second.finish()
    assert_rows(Run.load(path), 9)
    for again in (second.append, RunDirectory.open(path).append):
        with pytest.raises(InputRefused) as refusal:
            again("central", [{"loss": 1.0}])
        sentence(refusal, "complete")


def test_processes_may_lag_or_start_late(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    for t in range(4):
        directory.append("discrete", {"loss": t})
        directory.append("restarted", {"loss": float(t)} if t >= 3 else {})
        if t < 3:
            directory.append("midpoint", {"loss": t})  # its row 3 needs the discrete process's row 4
    directory.commit(4, {})
    again = RunDirectory.open(directory.path)
    again.append("midpoint", [{"loss": 3}, {"loss": 4}])
    again.append("discrete", {"loss": 4})
    again.finish()
    run = Run.load(directory.path)
    assert run["midpoint"].loss.tolist() == run["discrete"].loss.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(run["restarted"].loss, [np.nan, np.nan, np.nan, 3])


def test_failed_run_can_go_on(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    record(directory, 0, 2)
    directory.commit(2, {})
    record(directory, 2, 4)
    directory.fail("out of memory")
    assert_rows(Run.load(directory.path), 4)
    untouched = RunDirectory.open(directory.path)
    untouched.fail("not mine")
    assert Run.load(directory.path).manifest["reason"] == "out of memory"
    record(untouched, 2, 5)
    untouched.finish()
    run = Run.load(directory.path)
    assert_rows(run, 5)
    assert "reason" not in run.manifest


def test_checkpoint_states(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    state = {
        "w": np.arange(3, dtype=np.float32),
        "nested": {"generator": {"state": 2**100, "inc": 1}, "list": [1, (2.5, "x"), None, np.int64(4)]},
        "empty": {},
        "infinite": float("inf"),
    }
    directory.commit(4, state)
    state["w"] += 1
    step, found = RunDirectory.open(directory.path).latest_checkpoint()
    assert step == 4 and found["w"].tolist() == [0, 1, 2] and found["w"].dtype == np.float32
    assert found["nested"]["generator"] == {"state": 2**100, "inc": 1}
    assert found["nested"]["list"] == [1, [2.5, "x"], None, 4] and found["empty"] == {}
    assert found["infinite"] == float("inf")
    for step in (6, 8):
        directory.commit(step, {})
    assert [path.name for path in sorted((directory.path / "checkpoints").iterdir())] == [
        "000000006.npz",
        "000000008.npz",
    ]
    for bad in ({1: 2}, {"x": {"y": object()}}, {"x": np.array(["text"])}):
        with pytest.raises(InputRefused) as refusal:
            directory.commit(9, bad)
        sentence(refusal, "checkpoint")
    assert directory.latest_checkpoint()[0] == 8


def test_refused_places(tmp_path):
    RunDirectory.create(tmp_path / "run")
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    cases = {"run": "holds a run", "file": "is a file", "full": "not empty", "file/below": "choose another"}
    for name, words in cases.items():
        with pytest.raises(InputRefused) as refusal:
            RunDirectory.create(tmp_path / name)
        sentence(refusal, words)
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty")
    with pytest.raises(InputRefused) as refusal:
        RunDirectory.create(tmp_path / "new", {(1, 2): 3})
    sentence(refusal, "manifest")


def test_refused_loads(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no HDF5")
    for name, content in (("broken", "{"), ("foreign", '{"format": 1}'), ("newer", '{"format": 2, "run": "x"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(content)
    cases = {
        "empty": "holds no manifest.json",
        "nowhere": "is not a folder",
        "text": "damaged or foreign",
        "broken": "is no JSON",
        "foreign": "something else",
        "newer": "format 1",
    }
    for name, words in cases.items():
        with pytest.raises(InputRefused) as refusal:
            Run.load(tmp_path / name)
        sentence(refusal, words)
    with pytest.raises(InputRefused):
        RunDirectory.open(tmp_path / "empty")


# ---- damage


def four_chunks(path: Path) -> RunDirectory:
    directory = RunDirectory.create(path)
    for stop in (2, 4, 6, 8):
        record(directory, stop - 2, stop)
        directory.commit(stop, {"at": stop})
    return directory


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def replaced(path: Path) -> None:
    np.save(path.with_suffix(".npy"), np.ones(3))
    path.with_suffix(".npy").rename(path)


def from_elsewhere(path: Path) -> None:
    other = four_chunks(path.parents[2] / "other").path / "chunks" / path.name
    path.write_bytes(other.read_bytes())


def deleted(path: Path) -> None:
    path.unlink()


def copied_from_a_neighbour(path: Path) -> None:
    path.write_bytes((path.parent / "000002.npz").read_bytes())


@pytest.mark.parametrize(
    "damage", [truncated, flipped, emptied, replaced, from_elsewhere, deleted, copied_from_a_neighbour]
)
def test_damaged_chunk(tmp_path, damage):
    directory = four_chunks(tmp_path / "run")
    directory._release()
    damage(directory.path / "chunks" / "000001.npz")
    run = Run.load(directory.path)
    assert len(run.warnings) == 1 and "000001.npz" in run.warnings[0]
    expected = [np.nan if t in {2, 3} else row("central", t)["loss"] for t in range(8)]
    np.testing.assert_array_equal(run["central"].loss, expected)
    assert np.isnan(run["central"].critical[2:4]).all()

    again = RunDirectory.open(directory.path)  # and the run goes on
    record(again, 8, 10)
    again.finish()
    run = Run.load(directory.path)
    assert "000001.npz" in run.warnings[0] and np.isnan(run["central"].critical[2:4]).all()
    np.testing.assert_array_equal(run["central"].loss[4:], [row("central", t)["loss"] for t in range(4, 10)])


def test_chunk_damaged_while_running(tmp_path):
    directory = four_chunks(tmp_path / "run")
    flipped(directory.path / "chunks" / "000000.npz")
    directory.finish()
    run = Run.load(directory.path)
    assert run.complete and "000000.npz" in run.warnings[0]
    assert np.isnan(run["central"].critical[:2]).all() and run["central"].steps == 8


def test_foreign_files_are_left_alone(tmp_path):
    directory = four_chunks(tmp_path / "run")
    (directory.path / "chunks" / "notes.txt").write_text("mine")
    (directory.path / "chunks" / "mine.npz").write_text("mine")
    (directory.path / "report.html").write_text("mine")
    assert_rows(Run.load(directory.path), 8)
    again = RunDirectory.open(directory.path)
    record(again, 8, 9)
    assert not Run.load(directory.path).warnings and (directory.path / "chunks" / "mine.npz").exists()


def test_damaged_checkpoint_falls_back(tmp_path):
    directory = four_chunks(tmp_path / "run")
    flipped(directory.path / "checkpoints" / "000000008.npz")
    again = RunDirectory.open(directory.path)
    assert again.latest_checkpoint() == (6, {"at": 6})
    record(again, 6, 7)
    assert "000000008.npz" in again.warnings[0]
    assert_rows(again.read(), 7)
    emptied(directory.path / "checkpoints" / "000000006.npz")
    lost = RunDirectory.open(directory.path)
    assert lost.latest_checkpoint() is None
    record(lost, 0, 2)  # from the start
    assert_rows(lost.read(), 2)


def test_damaged_finals_and_results(tmp_path):
    directory = four_chunks(tmp_path / "run")
    directory.finish({"central": {"weights": np.ones(2)}})
    truncated(directory.path / "results.h5")
    run = Run.load(directory.path)
    assert run.complete and run["central"].weights.tolist() == [1, 1] and "results.h5" in run.warnings[0]
    assert_rows(run, 8)
    truncated(directory.path / "finals.npz")
    run = Run.load(directory.path)
    assert "finals.npz" in run.warnings[1] and "weights" not in run["central"]


# ---- a kill, at every point where it makes a difference


class Killed(BaseException):
    pass


RENAMES = 2 + 4 * 3 + 3  # manifest, results · 4 × (chunk, checkpoint, results) · finals, results, manifest


def to_the_end(path: Path) -> None:
    """Start or resume a run of eight steps."""
    directory = RunDirectory.open(path) if (path / "manifest.json").exists() else RunDirectory.create(path)
    start, _ = directory.latest_checkpoint() or (0, {})
    for stop in range(start + 2, 9, 2):
        directory._results_due = 0
        record(directory, stop - 2, stop)
        directory.commit(stop, {"at": stop})
    directory.finish({"central": {"weights": np.ones(2)}})


@pytest.mark.parametrize("before", [True, False])
def test_kill_at_every_rename(tmp_path, monkeypatch, before):
    """The finest grain at which a kill can matter: a rename has happened or has not."""
    renamed = Path.replace
    for doomed in range(RENAMES):
        path, calls = tmp_path / str(doomed), iter(range(RENAMES))

        def replace(self: Path, target: Path, doomed: int = doomed, calls=calls) -> Path:
            now = next(calls) == doomed
            if now and before:
                raise Killed
            found = renamed(self, target)
            if now:
                raise Killed
            return found

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "replace", replace)
            to_the_end(path)
        if doomed == 0 and before:
            assert not list(path.iterdir())  # nothing yet: the folder can be used again
            continue
        half = Run.load(path)
        assert not half.warnings and half.complete == (doomed == RENAMES - 1 and not before)
        assert_rows(half, half.steps_done, processes=tuple(half))
        if not half.complete:
            to_the_end(path)
        whole = Run.load(path)
        assert whole.complete and not whole.warnings and whole["central"].weights.tolist() == [1, 1]
        assert_rows(whole, 8)


# ---- other processes: a second writer, kills, a full disk


def script(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "script.py"
    head = "import sys\nsys.path.insert(0, sys.argv[1])\nfrom tests.numerics.test_records import *\n"
    path.write_text(head + textwrap.dedent(body))
    return [sys.executable, "-W", "error", str(path), str(ROOT)]


def test_one_writer(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    command = script(tmp_path, "RunDirectory.open(sys.argv[2]).append('central', [{'loss': 1.0}])")
    done = subprocess.run([*command, str(directory.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "another one is writing" in done.stderr
    directory._release()
    done = subprocess.run([*command, str(directory.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


ENDLESS = """
from itertools import count
path = Path(sys.argv[2])
if (path / "manifest.json").exists():
    directory = RunDirectory.open(path, results_every=0)
else:
    directory = RunDirectory.create(path, results_every=0)
start, state = directory.latest_checkpoint() or (0, {"sum": np.zeros(3)})
print(start, flush=True)
for t in count(start):
    record(directory, t, t + 1)
    state["sum"] = state["sum"] + t
    if t % 3 == 2:
        directory.commit(t + 1, state)
"""


def test_kill_at_any_moment(tmp_path):
    path, chance, reached = tmp_path / "run", random.Random(5), 0
    command = [*script(tmp_path, ENDLESS), str(path)]
    for _ in range(10):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        start = int(process.stdout.readline())
        assert start >= reached and start % 3 == 0
        time.sleep(chance.uniform(0, 0.15))
        with h5py.File(path / "results.h5") as file:  # while it is being written
            assert set(file) in (set(), set(PROCESSES))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with h5py.File(path / "results.h5") as file:
            assert set(file) in (set(), set(PROCESSES))
        run = Run.load(path)
        assert not run.complete and not run.warnings
        assert_rows(run, run.steps_done, processes=tuple(run))
        found = RunDirectory.open(path).latest_checkpoint()
        reached, state = found or (0, {"sum": np.zeros(3)})
        assert state["sum"].tolist() == [sum(range(reached))] * 3
        assert run.steps_done in {reached, reached + 3}
    assert reached > 0


FULL = """
import gc, resource
from numerics.run_directory import RecordingStopped
path, limit, size, recover = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "True"
directory = RunDirectory.create(path, results_every=0)
directory._results_due = 0
record(directory, 0, 3, n=2000)  # 32 kB per process and step
directory.commit(3, {"w": np.ones(3)})
directory._results_due = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
record(directory, 3, 4, n=2000)
try:
    directory.commit(4, {"w": np.ones(size)})
except RecordingStopped as stopped:
    print(stopped)
    assert isinstance(stopped, RuntimeError) and stopped.errno == 27
assert not list(path.rglob(".*.tmp"))
if recover:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    directory.commit(4, {"w": np.ones(size)})
    record(directory, 4, 6, n=2000)
    directory.finish()
else:
    directory.fail("disk full")
gc.collect()
"""


@pytest.mark.parametrize("recover", [False, True])
@pytest.mark.parametrize(
    ("limit", "size", "what", "rows", "step"),
    [
        (20_000, 3, "a chunk", 3, 3),
        (100_000, 20_000, "a checkpoint", 4, 3),
        (100_000, 3, "results.h5", 4, 4),
    ],
)
def test_full_disk(tmp_path, limit, size, what, rows, step, recover):
    path = tmp_path / "run"
    command = [*script(tmp_path, FULL), str(path), str(limit), str(size), str(recover)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    message = done.stdout.strip()
    assert f"because {what} could not" in message and f"{rows} steps are kept" in message, message
    assert message.endswith(f"goes on from step {step}.") and message.count("\n") == 0
    run = Run.load(path)
    with h5py.File(path / "results.h5") as file:
        assert len(file["central/loss"]) == (6 if recover else 3)
    assert run.complete == recover
    assert_rows(run, 6 if recover else rows, n=2000)
    if not recover:
        assert run.manifest["reason"] == "disk full"
        again = RunDirectory.open(path)
        assert again.latest_checkpoint()[0] == step
        record(again, step, 7, n=2000)
        again.finish()
        assert_rows(Run.load(path), 7, n=2000)


def test_appending_is_cheap(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    rows = [row("central", t) for t in range(2000)]
    started = time.perf_counter()
    for one in rows:
        directory.append("central", [one])
    assert time.perf_counter() - started < 1  # 0.5 ms a row; measured about 0.01 ms
