r"""Peak memory of a central step with ghost batches against that of a gradient: a 10⁶-parameter CNN on 2,000 images.

    python -m tests.benchmarks.memory [--ghost-batch 500]

Each measurement is made in a process of its own: the rise of its peak resident memory over the peak before the problem was made. The
gradient, too, is taken in ghost batches. The images are the 8×8 digits and, to make 2,000, some of them shifted by one pixel. The step
is at the edge of the stable set (one mode takes part), from cold: eigenvectors are found from nothing, which needs the most memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from unittest import mock

import torch

from numerics import Problem
from numerics.data import digits
from numerics.lowered import lower
from numerics.models import CNN
from numerics.processes import AveragedFlow, Context, averaged
from theory import derive

CHANNELS, EXAMPLES = (1, 64, 192, 512), 2000


def peak():
    """Peak resident memory so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def problem_of(ghost_batch):
    x, y = digits(1797)
    extra = EXAMPLES - len(x)
    shifted = x[:extra].reshape(-1, 8, 8).roll(1, 2).reshape(extra, -1)
    return Problem.from_module(
        CNN(CHANNELS), (torch.cat([x, shifted]), torch.cat([y, y[:extra]])), "mse", ghost_batch=ghost_batch
    )


def child(what, ghost_batch):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = peak()
    problem = problem_of(ghost_batch)
    lowered = lower(derive("gd").emitted, dict(lr=0.3), problem.blocks, problem.w0)
    if what == "gradient":
        problem.gradient(problem.w0)
    else:
        flow = AveragedFlow(
            Context(problem, lowered, False, 0), problem.w0, lowered.initial(), "central", oscillates=True
        )
        # Every step treats the top mode as critical, wherever it is.
        with mock.patch.object(averaged, "spectral_cut", lambda *a: 1):
            flow.step()
    print(problem.n, peak() - before, peak())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ghost-batch", type=int, default=500)
    parser.add_argument("--child", choices=["gradient", "step"])
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.ghost_batch)
        return
    rises = {}
    for what in ("gradient", "step"):
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.memory",
            "--child",
            what,
            "--ghost-batch",
            str(arguments.ghost_batch),
        ]
        n, rise, whole = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        rises[what] = rise
        print(
            f"{what:10s} n = {n}, ghost batch {arguments.ghost_batch}: rise {rise / 2**20:8.0f} MiB, peak {whole / 2**20:8.0f} MiB",
            flush=True,
        )
    print(f"central step / gradient: {rises['step'] / rises['gradient']:.2f}")


if __name__ == "__main__":
    main()
