"""Whole runs: the same seed gives the same bits, a resumed run is the run, and no kill, full disk or NaN loses a record.

Costs are times, and differ; everything else is compared bit by bit.
"""

import multiprocessing
import os
import random
import resource
import signal
import sys
import time

import h5py
import numpy as np
import pytest
import torch

from numerics import InputRefused, Problem, Run, simulate
from numerics.run_directory import RecordingStopped, RunDirectory
from tests.numerics.problems import small_problem

# Every process that there is, a rule with filter states and a step counter, and rules without.
CASES = {
    "gd": (dict(lr=1.2), ("discrete", "midpoint", "stable", "central")),
    "rmsprop": (
        dict(lr=0.02, beta2=0.95, eps=1e-4),
        ("discrete", "midpoint", "stable", "central", "cross", "ablated", "stationary", "rod"),
    ),
    "adam": (
        dict(lr=0.1, beta1=0.5, beta2=0.95, eps=1e-4),
        ("discrete", "midpoint", "stable", "central", "inertial", "eliminated"),
    ),
}
STEPS = 16


def train(rule="gd", steps=STEPS, problem=None, **more):
    hyper, processes = CASES[rule]
    settings = dict(warm_start=3, kick=1e-3, check=False, processes=processes) | more
    return simulate(problem or small_problem(), rule, hyper, steps, **settings)


def assert_same(run, whole, rows=None):
    """Bit by bit, up to so many rows; None: all of them, and the final values."""
    assert list(run) == list(whole)
    for name in whole:
        found, expected = run[name], whole[name]
        timed = {n for n in expected.series if n.startswith("cost/")}
        for series in set(expected.series) - timed:
            if rows is not None and series not in found:  # it begins later
                assert np.isnan(expected[series][:rows]).all(), (name, series)
                continue
            a, b = found[series][:rows], expected[series][:rows]
            if a.ndim == 2 and rows is not None:  # the width is that of the widest row, and half a run may lack it
                width = min(a.shape[1], b.shape[1])
                assert np.isnan(a[:, width:]).all() and np.isnan(b[:, width:]).all()
                a, b = a[:, :width], b[:, :width]
            assert np.array_equal(a, b, equal_nan=True), (name, series)
        for final in expected.finals if rows is None else ():
            assert np.array_equal(found[final], expected[final]), (name, final)


@pytest.fixture
def often(monkeypatch):
    """Commit after every step."""
    monkeypatch.setattr(sys.modules["numerics.simulate"], "COMMIT_EVERY", 0.0)


class Interrupted(Exception):
    pass


def stop_at(step):
    def progress(done, steps):
        if done == step:
            raise Interrupted

    return progress


@pytest.mark.parametrize("rule", [pytest.param(r, marks=[] if r == "rmsprop" else pytest.mark.slow) for r in CASES])
def test_same_seed_same_bits_also_through_interruptions(rule, tmp_path, often):
    whole = train(rule)
    assert np.nanmax(whole["central"].critical) > 0  # the oscillation is part of what is compared
    for step in (1, 12):
        with pytest.raises(Interrupted):
            train(rule, out=tmp_path / "run", resume=step > 1, progress=stop_at(step))
    assert_same(train(rule, out=tmp_path / "run", resume=True), whole)
    assert_same(Run.load(tmp_path / "run"), whole)


def test_another_seed_gives_other_bits():
    assert not np.array_equal(*(train(seed=seed, steps=2, kick=0.1)["discrete"].loss for seed in (1, 2)))


def scaled(problem, factor):
    return Problem(lambda w: factor * problem.loss(w), problem.w0, blocks=problem.blocks)


@pytest.mark.parametrize(
    "changed",
    [
        dict(problem=small_problem(1)),
        dict(problem=scaled(small_problem(), 1.001)),
        dict(steps=STEPS + 1),
        dict(seed=1),
        dict(rule="rmsprop"),
        dict(deterministic=True),
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_only_the_same_run_is_resumed(changed, tmp_path, often):
    with pytest.raises(Interrupted):
        train(out=tmp_path / "run", progress=stop_at(5))
    with pytest.raises(InputRefused, match="other settings"):
        train(**{"out": tmp_path / "run", "resume": True} | changed)


def test_another_state_to_start_from_is_another_run(tmp_path, often):
    given = dict(rule="rmsprop", out=tmp_path / "run")
    with pytest.raises(Interrupted):
        train(**given, state={"t": 1}, progress=stop_at(5))
    with pytest.raises(InputRefused, match="other settings"):
        train(**given, state={"t": 2}, resume=True)


def test_a_complete_run_is_not_resumed(tmp_path):
    train(steps=2, out=tmp_path / "run")
    with pytest.raises(InputRefused, match="complete"):
        train(steps=2, out=tmp_path / "run", resume=True)


def test_results_open_at_every_moment_of_a_run(tmp_path, often):
    opened = []

    def look(done, steps):
        with h5py.File(tmp_path / "run" / "results.h5") as file:
            opened.append(len(file["central/loss"]) if "central" in file else 0)

    train(out=tmp_path / "run", progress=look)
    assert len(opened) == STEPS and opened == sorted(opened)


# ---- in a child process, which may be killed


def child(task, *arguments):
    """Start a function in a copy of this process, which has torch loaded already."""
    process = multiprocessing.get_context("fork").Process(target=task, args=arguments)
    process.start()
    return process


def train_on(path, pause=0.0):
    sys.modules["numerics.simulate"].COMMIT_EVERY = 0.0
    train(out=path, resume=(path / "manifest.json").exists(), progress=lambda done, steps: time.sleep(pause))


def checked_after_a_kill(path, whole):
    """Everything that the run recorded is readable and right; return the step of its checkpoint."""
    if not (path / "manifest.json").exists():
        return 0
    with h5py.File(path / "results.h5") as file:
        assert set(file) <= set(whole)
    run, mark = Run.load(path), RunDirectory.open(path).latest_checkpoint()
    step = 0 if mark is None else mark[0]
    assert not run.warnings
    assert run.complete or step <= run.steps_done <= step + 1  # a commit a step
    if run.steps_done:
        assert_same(run, whole, rows=run.steps_done)
    return step


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_at_random_moments(tmp_path, kills):
    """Each kill hits a run that is going on: one that was complete before is followed by a new one."""
    whole, chance, path, reached = train(), random.Random(kills), tmp_path / "0", 0
    while kills:
        process = child(train_on, path, 0.05)
        time.sleep(chance.uniform(0, 1))
        process.kill()
        process.join()
        if process.exitcode == 0:
            path, reached = tmp_path / str(kills), 0
            continue
        kills, before = kills - 1, reached
        reached = checked_after_a_kill(path, whole)
        assert reached >= before  # nothing behind a checkpoint is ever lost
    if not (path / "manifest.json").exists() or not Run.load(path).complete:
        train_on(path)
    assert_same(Run.load(path), whole)


def train_on_a_full_disk(path, room, answer):
    """From step 8 on no file can be longer than so many chunks."""
    sys.modules["numerics.simulate"].COMMIT_EVERY = 0.0

    def fill(done, steps):
        if done == 8:
            longest = max(file.stat().st_size for file in (path / "chunks").glob("*.npz"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(room * longest), resource.RLIM_INFINITY))

    try:
        train(out=path, progress=fill)
    except RecordingStopped as stopped:
        answer.send(str(stopped))


@pytest.mark.parametrize(("room", "what"), [(0.5, "a chunk"), (1.5, "a checkpoint")])
def test_a_full_disk_ends_a_run_with_one_sentence(tmp_path, room, what):
    path = tmp_path / "run"
    receive, send = multiprocessing.Pipe(duplex=False)
    process = child(train_on_a_full_disk, path, room, send)
    message = receive.recv() if receive.poll(120) else ""
    process.join()
    assert process.exitcode == 0
    assert message.startswith(f"recording stopped because {what} could") and message.count(". ") == 0
    run, whole = Run.load(path), train()
    assert not run.warnings and run.manifest["status"] == "failed" and run.steps_done >= 8
    assert_same(run, whole, rows=run.steps_done)
    with h5py.File(path / "results.h5") as file:
        assert set(file) <= set(run)
    assert_same(train(out=path, resume=True), whole)  # with room again


def test_sigterm_reaches_no_half_written_file(tmp_path):
    process = child(train_on, tmp_path / "run", 0.01)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run" / "checkpoints").glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    run = Run.load(tmp_path / "run")
    assert run.steps_done > 0 and not run.warnings


# ---- losses that break


def breaking(beyond):
    """A loss that is nan so far away from the start."""
    base = small_problem()

    def loss(w):
        return base.loss(w) + torch.where((w - base.w0).norm() > beyond, torch.nan, 0.0)

    return Problem(loss, base.w0, blocks=base.blocks)


def test_a_nan_loss_stops_one_process_with_one_sentence(tmp_path, often):
    weights = train("rmsprop", processes=("discrete",))["discrete"].weights_series
    far = np.linalg.norm(weights - small_problem().w0.numpy(), axis=1)[8]
    run = train("rmsprop", problem=breaking(far), out=tmp_path / "run")
    reason = run.manifest["stopped"]["discrete"]
    assert "must stay finite" in reason and reason.count(". ") == 0 and reason.endswith(".")
    stored = Run.load(tmp_path / "run")
    assert stored.complete and not stored.warnings
    finite = np.isfinite(stored["discrete"].loss)
    assert 0 < finite.sum() < STEPS and finite[: finite.sum()].all()


def test_a_nan_before_the_first_step_is_a_refusal(tmp_path):
    with pytest.raises(FloatingPointError, match="must stay finite"):
        train(problem=breaking(1e-6), out=tmp_path / "run")
    assert Run.load(tmp_path / "run").manifest["status"] == "failed"


@pytest.mark.parametrize(
    ("rule", "factor", "dtype"),
    [("gd", 1e160, torch.float64), ("rmsprop", 1e160, torch.float64), ("gd", 1e20, torch.float32)],
)
def test_an_overflow_stops_processes_and_not_the_run(rule, factor, dtype):
    """Loss and gradient are finite, but their squares, curvatures or steps are not."""
    base = small_problem()
    problem = Problem(lambda w: factor * base.loss(w.double()).to(dtype), base.w0.to(dtype), blocks=base.blocks)
    run = train(rule, problem=problem, warm_start=0, kick=0.0, steps=3)
    assert run.manifest["stopped"].keys() >= {"discrete", "central"} and run.complete
    for reason in run.manifest["stopped"].values():
        assert reason.startswith("step ") and reason.endswith(".") and not reason.endswith("..")
