"""`torchrun … centralflow run`: one run by several processes, also when one of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from derivations.cli import main
from numerics.records import Run

BIN = Path(sys.executable).parent
SETTINGS = ["--rule", "gd", "--lr", "0.5", "--kick", "1e-3"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")]


def launch(ranks, *arguments):
    command = [BIN / "torchrun", "--no-python", "--nproc-per-node", str(ranks), BIN / "centralflow", "run", *SETTINGS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def pid_of(launcher, rank):
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return next(int(c) for c in children if f"\0RANK={rank}\0" in Path(f"/proc/{c}/environ").read_text())


@pytest.mark.parametrize("ranks", [2, 4])
def test_one_run_by_several_processes(ranks, tmp_path):
    launcher = launch(ranks, "--steps", 5, "--out", tmp_path / "several")
    out, err = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, err
    assert out.count("5 steps, complete") == 1 and err.count("written:") == 1
    assert main(["run", *SETTINGS, "--steps", "5", "--out", str(tmp_path / "one")]) == 0
    several, one = Run.load(tmp_path / "several"), Run.load(tmp_path / "one")
    for name in one:
        np.testing.assert_allclose(several[name].loss, one[name].loss, rtol=1e-10)
    assert (tmp_path / "several" / "report.html").is_file()


def test_a_refusal_is_said_once(tmp_path):
    launcher = launch(2, "--steps", 0, "--out", tmp_path / "run")
    _, err = launcher.communicate(timeout=240)
    assert launcher.returncode != 0 and err.count("centralflow: steps must be") == 1


@pytest.mark.parametrize("doomed", [0, 1])
def test_a_dead_process_ends_the_run_which_can_go_on(doomed, tmp_path):
    out = tmp_path / "run"
    launcher = launch(2, "--steps", 4000, "--out", out)
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoints/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(pid_of(launcher, doomed), signal.SIGKILL)
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    sentences = [line for line in err.splitlines() if line.startswith("centralflow: ")]
    assert len(sentences) == 1, err
    assert "a process of this run was lost" in sentences[0] and "--resume" in sentences[0]
    half = Run.load(out)
    assert half.steps_done > 0 and not half.complete and not half.warnings
    if doomed == 1:
        assert half.manifest["status"] == "failed" and half.manifest["reason"].startswith("RankLost")
    again = launch(2, "--steps", 4000, "--out", out, "--resume")
    while Run.load(out).steps_done <= half.steps_done and again.poll() is None:
        time.sleep(0.5)
    again.terminate()
    again.communicate(timeout=120)
    assert Run.load(out).steps_done > half.steps_done
