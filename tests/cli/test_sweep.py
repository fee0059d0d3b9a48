import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from derivations.cli import sweep as sweeps
from derivations.cli.refusal import CommandRefused
from derivations.cli.sweep import Sweep, cells
from numerics.records import Run
from tests.cli.test_reports import Page


def arguments(flags, text=""):
    return [cell.arguments for cell in cells(flags, tomllib.loads(text), Path("root"))]


def test_every_combination_is_a_cell_in_order():
    found = cells({"rule": ["gd", "rmsprop"], "lr": ["0.1", "0.2"], "steps": ["5"]}, {}, Path("root"))
    assert [cell.label for cell in found] == [f"rule {r}, lr {lr}" for r in ("gd", "rmsprop") for lr in ("0.1", "0.2")]
    assert found[1].arguments == ("--rule=gd", "--lr=0.2", "--steps=5")
    assert len({cell.folder for cell in found}) == 4 and all(cell.folder.parent == Path("root") for cell in found)


def test_tables_are_grids_of_their_own_and_flags_replace_keys():
    text = """
    steps = 5
    model = ["mlp", "cnn"]
    [[grid]]
    rule = "gd"
    lr = [0.3, 0.4]
    [[grid]]
    rule = "rmsprop"
    lr = 0.002
    bias_correction = true
    """
    found = arguments({"steps": ["7"]}, text)
    assert len(found) == 2 * 2 + 2
    assert found[0] == ("--steps=7", "--model=mlp", "--rule=gd", "--lr=0.3")
    assert found[-1] == ("--steps=7", "--model=cnn", "--rule=rmsprop", "--lr=0.002", "--bias-correction")


def test_other_settings_are_another_folder_and_the_same_ones_are_one_cell():
    one, other, again = (cells({"lr": [lr], "steps": [n]}, {}, Path())[0].folder for lr, n in ((1, 2), (1, 3), (1, 2)))
    assert one == again != other
    assert len(cells({"lr": ["0.1", "0.1"]}, {}, Path())) == 1
    assert cells({"rule": ["../x y.py"]}, {}, Path("root"))[0].folder.parent == Path("root")


def test_refused_grids(cli, tmp_path):
    with pytest.raises(CommandRefused, match="tables"):
        cells({}, {"grid": [1]}, Path())
    for wrong, words in (
        (("--resume",), "leave --resume out"),
        (("--jobs", "0"), "at least 1"),
        (("--config", tmp_path / "no.toml"), "no.toml"),
    ):
        code, out, err = cli("sweep", *wrong)
        assert code == 2 and not out and words in err


def stand_in(monkeypatch, source):
    """Let cells run a few lines of Python, which see the arguments of `run`, in place of the workbench."""
    monkeypatch.setattr(sweeps, "RUN", "import sys, json, os, time, pathlib\n" + source)


COMPLETES = """
values = dict(a.lstrip('-').split('=', 1) for a in sys.argv[2:] if '=' in a)
if values['lr'] == 'bad':
    sys.exit('centralflow: lr is bad.')
if values['lr'] == 'killed':
    os.kill(os.getpid(), 9)
folder = pathlib.Path(values['out'])
folder.mkdir(exist_ok=True)
count = len(list(folder.iterdir()))
(folder / f'seen{count}').write_text(str('--resume' in sys.argv))
status = 'complete' if count or values['lr'] == 'good' else 'running'
(folder / 'manifest.json').write_text(json.dumps({'status': status}))
"""


@pytest.mark.parametrize("jobs", [1, 3])
def test_failures_stop_no_other_and_the_rest_goes_on_later(jobs, tmp_path, monkeypatch):
    stand_in(monkeypatch, COMPLETES)
    planned = cells({"lr": ["bad", "killed", "half", "good"]}, {}, tmp_path)
    bad, killed, half, good = planned
    first, calls = Sweep(planned, jobs), []
    first.run(lambda: calls.append(1))
    assert len(calls) == 4
    assert first.failures.keys() == {bad, killed}
    assert first.failures[bad] == "lr is bad." and "SIGKILL" in first.failures[killed]
    assert sweeps.is_complete(good) and not sweeps.is_complete(half)
    again, calls = Sweep(planned, jobs), []
    again.run(lambda: calls.append(1))
    assert len(calls) == 3  # all but the complete one
    assert (half.folder / "seen0").read_text() == "False" and (half.folder / "seen2").read_text() == "True"
    assert sweeps.is_complete(half) and len(list(good.folder.iterdir())) == 2


def test_what_is_going_on_ends_with_the_sweep(tmp_path, monkeypatch):
    stand_in(monkeypatch, "time.sleep(600)")
    sweep = Sweep(cells({"lr": ["1", "2", "3"]}, {}, tmp_path), 2)

    def interrupt(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep.run(lambda: None)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - started < 300  # and not the cells' own 600 s


@pytest.mark.slow
def test_a_sweep_of_real_runs(cli, tmp_path):
    config = tmp_path / "grid.toml"
    config.write_text(
        'steps = 3\nprocesses = "discrete,central"\n[[grid]]\nrule = "gd"\nlr = [0.3, -1.0]\n'
        '[[grid]]\nrule = "rmsprop"\nlr = 0.002\n'
    )
    code, out, err = cli("sweep", "--config", config, "--out", tmp_path / "s", "--jobs", 2)
    assert code == 2 and "1 of 3 runs failed" in err and "--lr must lie in" in out
    page = Page((tmp_path / "s" / "report.html").read_text())
    assert "2 complete, 1 failed" in page.text and "--lr must lie in (0, ∞), got -1." in page.text
    reports = [link for link in page.links if not link.startswith("data:")]
    assert len(reports) == 2 and all((tmp_path / "s" / link).is_file() for link in reports)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*/results.h5")}
    assert cli("sweep", "--config", config, "--out", tmp_path / "s", "--lr", 0.3)[0] == 0  # rmsprop alone is new
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*/results.h5")}.items()


@pytest.mark.slow
def test_a_killed_sweep_goes_on(tmp_path):
    command = [Path(sys.executable).parent / "centralflow", "sweep", "--rule", "gd", "--lr", "0.3", "--steps", "300"]
    command += ["--out", tmp_path]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/checkpoints/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    folder = next(tmp_path.glob("*/manifest.json")).parent
    assert 0 < Run.load(folder).steps_done < 300
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert Run.load(folder).complete and Run.load(folder).steps_done == 300
