r"""Error table of the flow's time stepping: steps per unit time × scheme → distance to a finely resolved flow and to training.

    python -m tests.benchmarks.stepping [--steps 60]

The fine flow takes 32 steps per optimizer step. Schemes: "euler" (nothing exponential), "exponential" (tracked modes near
and above the threshold exponential: the one used). Both flows and training start together before the edge; distances are at the end, and
training is taken at its midpoint.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from numerics import Problem, simulate
from numerics.data import digits
from numerics.models import MLP
from numerics.processes.propagator import Propagator

SETTINGS = [("gd", dict(lr=0.354), 40), ("rmsprop", dict(lr=0.002, beta2=0.99, eps=1e-6), 60)]
SUBSTEPS = (1, 2, 4)


def final(rule, hyper, warm, steps, substeps, scheme, processes=("central",)):
    kept = Propagator.at
    if scheme == "euler":
        Propagator.at = classmethod(lambda cls, modes, P, h, above: kept(modes, P, h, float("inf")))
    try:
        problem = Problem.from_module(MLP(seed=0), digits(300), "mse")
        return simulate(
            problem, rule, hyper, steps, warm_start=warm, kick=1e-3, processes=processes, substeps=substeps, check=False
        )
    finally:
        Propagator.at = kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--fine", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for rule, hyper, warm in SETTINGS:
        run = final(rule, hyper, warm, arguments.steps, 1, "exponential", ("discrete", "midpoint"))
        target = run["midpoint"].weights
        fine = final(rule, hyper, warm, arguments.steps, arguments.fine, "exponential")["central"].weights
        print(f"\n{rule} {hyper}, {arguments.steps} steps: fine flow to training {np.linalg.norm(fine - target):.4f}")
        print(f"{'scheme':>14} {'steps/unit':>10} {'to fine flow':>13} {'to training':>12}")
        for scheme in ("euler", "exponential", "exponential"):
            for substeps in SUBSTEPS:
                w = final(rule, hyper, warm, arguments.steps, substeps, scheme)["central"].weights
                print(
                    f"{scheme:>14} {substeps:>10} {np.linalg.norm(w - fine):>13.4f} {np.linalg.norm(w - target):>12.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
