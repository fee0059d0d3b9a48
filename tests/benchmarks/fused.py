r"""What fusing would save: several gradients at once by vmap, and torch.compile, against the gradient as the flow takes it.

    python -m tests.benchmarks.fused [--repeats 10]

Per network: CPU time of a vmapped gradient at k points in units of one plain gradient (k plain ones cost k), and of a compiled one. A central
step is made of gradients at nearby points, so the first is what a batched step could save. The second shortens training and flow
alike: it leaves their ratio as it is.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch.func import grad, vmap

from derivations.cli.problems import build

NETWORKS = {"mlp": ("digits", 300), "cnn": ("digits", 300), "transformer": ("sorting", 100)}
POINTS, STEP = (3, 6, 12), 1e-4


def cpu_time(function, repeats):
    """Median CPU time in seconds, after a first call."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times))


def row(model, repeats):
    """One line of the table."""
    data, examples = NETWORKS[model]
    problem = build(model, 0, data, "mse", data_options={"n": examples})
    one = cpu_time(lambda: problem.gradient(problem.w0), repeats)
    batched = vmap(grad(problem.loss))
    together = []
    for k in POINTS:
        generator = torch.Generator().manual_seed(k)
        points = problem.w0 + STEP * torch.randn(k, problem.n, dtype=problem.dtype, generator=generator)
        together.append(cpu_time(lambda points=points: batched(points), repeats) / one)
    compiled = torch.compile(grad(problem.loss))
    fused = cpu_time(lambda: compiled(problem.w0), repeats) / one
    numbers = "".join(f"{x:10.2f}" for x in (1e3 * one, *together, fused))
    return f"{model:14s}{problem.n:10d}{numbers}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    titles = ("n", "g in ms", *(f"vmap {k}" for k in POINTS), "compiled")
    print(f"{'':14s}" + "".join(f"{x:>10s}" for x in titles), flush=True)
    for model in NETWORKS:
        print(row(model, arguments.repeats), flush=True)


if __name__ == "__main__":
    main()
