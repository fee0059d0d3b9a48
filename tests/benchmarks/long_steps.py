r"""Error against cost of the central flow in steps of several optimizer steps; the setup of `tests.benchmarks.protocol`.

    python -m tests.benchmarks.long_steps [--rules gd rmsprop] [--seeds 0 1] [--strides 1 4 16 64 256] [--slower 1 2 4]

The learning rate is the protocol's divided by 1, 2 and 4, with as many times more steps: at smaller ones fewer modes are critical, and everything
changes less per step, so that steps can be longer. GD starts on the step before the edge with a kick, RMSProp after the protocol's warm-up.

For each stride: the predicted-loss error of THEORY section 8 and its ratio to stride 1, the deviation explained, the mean number of
critical modes, and the cost of the central flow per optimizer step: in gradient evaluations (Hessian products by differences included), and in
CPU time over that of a gradient. Below 1 a prediction is cheaper than the training it predicts.
"""

from __future__ import annotations

import argparse
import sys
import time
from unittest import mock

import numpy as np
import torch

import numerics.derivatives
from numerics import simulate
from numerics.metrics import edge_window, predicted_loss_error, smooth
from tests.benchmarks.protocol import HYPER, KICK, LR, STEPS, WARM, edge_step, problem_of

simulation = sys.modules["numerics.simulate"]

SLOWER = (1.0, 2.0, 4.0)
STRIDES = (1, 4, 16, 64, 256)


def counted_run(problem, arguments):
    """The central flow's run, its gradient evaluations and the CPU time of its steps."""
    calls, spent = [0], [0.0]
    evaluate, step = numerics.derivatives.value_and_gradient, simulation._Simulation._row

    def counting(*a):
        calls[0] += 1
        return evaluate(*a)

    def timed(*a):
        start = time.process_time()
        row = step(*a)
        spent[0] += time.process_time() - start
        return row

    run_of = simulation._Simulation.run

    def run_only(*a):
        calls[0] = 0
        return run_of(*a)

    with (
        mock.patch("numerics.derivatives.value_and_gradient", counting),
        mock.patch.object(simulation._Simulation, "_row", timed),
        mock.patch.object(simulation._Simulation, "run", run_only),
    ):
        run = simulate(problem, **arguments, processes=("central",), check=False)
    return run, calls[0], spent[0]


def gradient_time(problem, repeats=50):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        problem.gradient(problem.w0)
        times.append(time.process_time() - start)
    return float(np.median(times))


def curve(rule, slower, seed, strides):
    """Print the curve of error against cost."""
    lr, steps = LR[rule] / slower, round(STEPS * slower)
    hyper, problem = HYPER[rule] | {"lr": lr}, problem_of(seed)
    start = WARM[rule] if rule in WARM else edge_step(rule, hyper, seed, limit=1000)
    print(f"\n{rule} lr {lr:.4g} seed {seed}: {steps} steps from {start}", flush=True)
    if start is None:
        print("the edge is not reached")
        return
    arguments = dict(
        rule=rule, hyper=hyper, steps=steps, warm_start=start, kick=KICK if rule == "gd" else 0.0, seed=seed
    )
    real = simulate(problem, **arguments, processes=("discrete", "midpoint", "stable"), check=False)
    E = edge_window(real["midpoint"].eigenvalues[:, 0], real["midpoint"].threshold)
    if E is None:
        print("the edge is not reached")
        return
    loss, last, g = real["discrete"].loss, E.stop - 1, gradient_time(problem)
    weights = smooth(real["discrete"].weights_series)[last]
    apart = np.sum((weights - real["stable"].weights_series[last]) ** 2)
    print(f"stable flow: loss error {predicted_loss_error(loss, real['stable'].loss, E).relative:.4f}")
    print(
        "".join(
            f"{x:>12}"
            for x in ("stride", "loss error", "/ stride 1", "explained", "mean k", "evaluations", "CPU time g")
        )
    )
    first = None
    for stride in strides:
        run, calls, spent = counted_run(problem, arguments | {"stride": stride})
        flow = run["central"]
        if run.manifest["stopped"]:
            print(f"{stride:12d}   {run.manifest['stopped']['central']}")
            continue
        error = predicted_loss_error(loss, flow.predicted_loss, E).relative
        first = error if first is None else first
        explained = 1 - np.sum((weights - flow.weights_series[last]) ** 2) / apart
        numbers = (error, error / first, explained, np.nanmean(flow.critical[E]), calls / steps, spent / steps / g)
        print(
            f"{stride:12d}" + "".join(f"{x:12.4f}" for x in numbers[:3]) + "".join(f"{x:12.2f}" for x in numbers[3:]),
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=["gd"], choices=["gd", "rmsprop"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--strides", nargs="+", type=int, default=list(STRIDES))
    parser.add_argument(
        "--slower", nargs="+", type=float, default=list(SLOWER), help="what the learning rate is divided by"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for rule in arguments.rules:
        for seed in arguments.seeds:
            for slower in arguments.slower:
                curve(rule, slower, seed, arguments.strides)


if __name__ == "__main__":
    main()
