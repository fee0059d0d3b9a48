"""The flow agrees with the slow and obvious way of stepping it, in a setting where both make the same Euler substeps."""

import numpy as np
import torch

import numerics.processes.averaged as averaged
from numerics import simulate
from numerics.lowered import lower
from numerics.processes import AveragedFlow, Context
from tests.benchmarks.textbook import textbook_step
from tests.numerics.problems import small_problem
from theory import derive

LR = 1.5


def test_one_step_at_the_edge(monkeypatch):
    problem = small_problem()
    run = simulate(problem, "gd", dict(lr=LR), 60, processes=("central",), check=False)["central"]
    t = int(np.flatnonzero(run.critical == 2)[10])
    w = torch.as_tensor(run.weights_series[t])
    # Every substep treats the same two modes, and all of them by forward Euler.
    monkeypatch.setattr(averaged, "spectral_cut", lambda *a: 2)
    lowered = lower(derive("gd").emitted, dict(lr=LR), problem.blocks, problem.w0)
    flow = AveragedFlow(
        Context(problem, lowered, True, 0), w, lowered.initial(), "c", oscillates=True, substeps=4, fast=np.inf
    )
    monkeypatch.setattr(flow._tracker, "tol", 1e-9)
    monkeypatch.setattr(averaged.AveragedFlow, "_width", lambda self: 0.9)
    flow.step()
    expected, X = textbook_step(problem.loss, w, LR, 2)
    moved = (expected - w).norm()
    assert X.trace() > 0
    # The reference's X is good to the square root of its solver's gap.
    assert (flow.w - expected).norm() < 1e-4 * moved
    np.testing.assert_allclose(flow._last.X.diagonal().sum(), X.diagonal().sum(), rtol=1e-3)
