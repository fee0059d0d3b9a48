r"""Cost of one central step at the edge, in gradients of the same loss, interleaved with them, one thread.

    python -m tests.benchmarks.step_cost [--steps 50]

For each number k of critical modes: median over the steps that have exactly k of (time of the step with eigen-update, third derivatives,
covariance and records) / (median time of a plain gradient measured between the steps), by phase. The CNN's gradient takes ≥ 10 ms.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
import torch

from numerics import Problem
from numerics.data import digits
from numerics.lowered import lower
from numerics.models import CNN, MLP
from numerics.processes import AveragedFlow, Context
from numerics.run_directory import MemoryRecords
from numerics.simulate import _numpy
from theory import derive

# Per network: rule, hyperparameters, optimizer steps before the flow starts.
SETTINGS = {
    "CNN": [
        ("scalar_rmsprop", dict(lr=0.06, beta2=0.99, eps=1e-6), 20),
        ("scalar_rmsprop", dict(lr=0.02, beta2=0.99, eps=1e-6), 20),
        ("gd", dict(lr=0.3), 20),
        ("rmsprop", dict(lr=1e-3, beta2=0.99, eps=1e-6), 40),
    ],
    "MLP": [("gd", dict(lr=0.354), 40), ("rmsprop", dict(lr=0.002, beta2=0.99, eps=1e-6), 60)],
}
PHASES = ("grad", "eig", "third", "sdcp", "total")


def problem_of(network):
    module = CNN(seed=0) if network == "CNN" else MLP(seed=0)
    return Problem.from_module(module, digits(1000 if network == "CNN" else 300), "mse")


def measure(network, rule, hyper, warm, steps, limit):
    """Rows (k, phase costs in gradients) of a central flow, a plain gradient timed after each step."""
    problem = problem_of(network)
    lowered = lower(derive(rule).emitted, hyper, problem.blocks, problem.w0)
    w, states = problem.w0, lowered.initial()
    for _ in range(warm):
        w, states = lowered.f.step(w, problem.gradient(w)[1], states)
    flow, records = (
        AveragedFlow(Context(problem, lowered, True, 0), w, states, "central", oscillates=True),
        MemoryRecords(),
    )
    rows, gradients, counts = [], [], defaultdict(int)
    for _ in range(limit):
        start = time.perf_counter()
        row = flow.step()
        records.append("central", _numpy(row))
        middle = time.perf_counter()
        problem.gradient(flow.w)
        gradients.append(time.perf_counter() - middle)
        rows.append((int(row["critical"]), middle - start, {p: row[f"cost/{p}"] for p in PHASES}))
        counts[rows[-1][0]] += 1
        if min(counts[1], counts[2], counts[3]) >= steps or max(counts[k] for k in (1, 2, 3)) >= 2 * steps:
            break
    g = float(np.median(gradients))
    return g, [(k, total / g, c) for k, total, c in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--networks", nargs="+", default=list(SETTINGS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for network in arguments.networks:
        for rule, hyper, warm in SETTINGS[network]:
            g, rows = measure(network, rule, hyper, warm, arguments.steps, 4 * arguments.steps)
            print(
                f"\n{network}, {rule} {hyper}: gradient {1e3 * g:.2f} ms\n  k  steps  total g"
                + "".join(f"{p:>8}" for p in PHASES[:-1])
            )
            for k in sorted({k for k, *_ in rows}):
                mine = [(t, c) for j, t, c in rows if j == k]
                shares = "".join(
                    f"{np.median([t * c[p] / sum(c[q] for q in PHASES[:-1]) for t, c in mine]):8.1f}"
                    for p in PHASES[:-1]
                )
                print(f"{k:3d} {len(mine):6d} {np.median([t for t, _ in mine]):8.1f}{shares}", flush=True)


if __name__ == "__main__":
    main()
