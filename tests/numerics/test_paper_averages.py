"""(T4), (T5), (T6) against averages over ±δ on random networks: the order of the error, with and without the cross term."""

import numpy as np
import pytest
import torch

from tests.numerics.problems import small_problem

DELTAS = np.array([0.02, 0.03, 0.045])


def slopes(seed):
    problem = small_problem(seed)
    w, n = problem.w0, problem.n
    direction = torch.randn(n, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
    direction /= direction.norm()
    H = torch.func.hessian(problem.loss)(w)
    g = problem.gradient(w)[1]
    curvature = torch.func.grad(lambda x: direction @ torch.func.hessian(problem.loss)(x) @ direction)(w)
    errors = {k: [] for k in ("T4", "T5", "T6 loss", "T6 gradient", "T5 without", "T6 gradient without")}
    for size in DELTAS:
        delta = size * direction
        (Lp, gp), (Lm, gm) = problem.gradient(w + delta), problem.gradient(w - delta)
        mean = g + size**2 * curvature / 2
        HSH = torch.outer(H @ delta, H @ delta)
        outer = (torch.outer(gp, gp) + torch.outer(gm, gm)) / 2
        errors["T4"].append((gp + gm) / 2 - mean)
        errors["T5"].append(outer - torch.outer(mean, mean) - HSH)
        errors["T5 without"].append(outer - torch.outer(g, g) - HSH)
        errors["T6 loss"].append((Lp + Lm) / 2 - problem.value(w) - delta @ H @ delta / 2)
        errors["T6 gradient"].append((gp @ gp + gm @ gm) / 2 - mean @ mean - HSH.trace())
        errors["T6 gradient without"].append((gp @ gp + gm @ gm) / 2 - g @ g - HSH.trace())
    return {k: np.polyfit(np.log(DELTAS), [float(torch.log(e.norm())) for e in v], 1)[0] for k, v in errors.items()}


@pytest.mark.parametrize("seed", range(6))
def test_order_of_the_averages(seed):
    found = slopes(seed)
    for name in ("T4", "T5", "T6 loss", "T6 gradient"):
        assert found[name] == pytest.approx(4, abs=0.1), name
    for name in ("T5 without", "T6 gradient without"):
        assert found[name] == pytest.approx(2, abs=0.1), name
