"""One central step against a slow and obvious reference: dense Hessians, and finite differences of the averaged map.

The reference uses no generated flow code: it averages the discrete update over ±δ, converts it by (T7), moves (w, a) a small
time h, and differentiates the margin λ*P − H numerically.
"""

import numpy as np
import pytest
import torch

from numerics import simulate, solve_sdcp
from numerics.lowered import lower
from numerics.processes import AveragedFlow, Context
from tests.numerics.problems import small_problem
from tests.theory.own_rule import own_rule
from theory import derive

RULES = [
    pytest.param("gd", dict(lr=0.9), id="gd"),
    pytest.param("scalar_rmsprop", dict(lr=0.3, beta2=0.95, eps=1e-6), id="scalar_rmsprop"),
    pytest.param("rmsprop", dict(lr=0.02, beta2=0.95, eps=1e-4), id="rmsprop"),
    pytest.param(own_rule, dict(lr=0.3, beta2=0.9, eps=1e-3), id="own rule"),
]
H_STEP = 1e-4


def at_the_edge(rule, hyper):
    """A point of the central flow at which a mode is critical: problem, lowered rule, weights, accumulators."""
    problem = small_problem()
    run = simulate(problem, rule, hyper, 60, warm_start=3, processes=("central",), check=False)
    t = int(np.flatnonzero(run["central"].critical)[-1])
    lowered = lower(derive(rule).emitted, hyper, problem.blocks, problem.w0)
    named = {n: s[t] for n, s in run["central"].states_series.items()}
    return problem, lowered, torch.as_tensor(run["central"].weights_series[t]), lowered.select(lowered.pack(named))


def averaged_rate(lowered, a, g, y, slope_step=1e-6):
    """(T7) by brute force: f averaged over g ± y, ∂f/∂a by central differences, one accumulator at a time."""

    def f(a, g):
        return lowered.f.accumulator_map(lowered.f.advance_clocks(a, 1.0), (), (), g)

    mean = [(p + m) / 2 for p, m in zip(f(a, g + y), f(a, g - y), strict=True)]
    rates = []
    for i, value in enumerate(a):
        step = slope_step * (1 + value.abs())
        up, down = (f(tuple(v + s * step if j == i else v for j, v in enumerate(a)), g)[i] for s in (1, -1))
        rates.append((mean[i] - value) / ((up - down) / (2 * step)))
    return rates


@pytest.mark.parametrize(("rule", "hyper"), RULES)
def test_covariance_and_velocity_match_the_reference(rule, hyper):
    problem, lowered, w, a = at_the_edge(rule, hyper)
    hessian, context = torch.func.hessian(problem.loss), Context(problem, lowered, False, 0)
    spread = lambda a: context.preconditioner(a).expand(problem.n)  # ruff: ignore[lambda-assignment]
    P, g, threshold = spread(a), problem.gradient(w)[1], float(lowered.f.threshold(a))
    root = P.sqrt()
    values, Q = torch.linalg.eigh(hessian(w) / root[:, None] / root)
    k = int((values > 0.95 * threshold).sum())
    U = (Q / root[:, None])[:, -k:]

    def move(X):
        """(w, a) after time h with covariance X, its average built from the eigenvectors of Σ."""
        D, V = torch.linalg.eigh(X)
        modes = U @ V
        curvature = sum(
            d
            * torch.func.jvp(
                lambda x, u=u: torch.func.jvp(lambda s: torch.func.grad(problem.loss)(s), (x,), (u,))[1], (w,), (u,)
            )[1]
            for d, u in zip(D, modes.T, strict=True)
        )
        base = averaged_rate(lowered, a, g, torch.zeros_like(g))
        rates = [
            b + sum(d.sign() * (r - b) for d, r in parts)
            for b, parts in zip(base, _per_mode(D, modes, base), strict=True)
        ]
        return w - H_STEP * (g + curvature / 2) / P, tuple(x + H_STEP * r for x, r in zip(a, rates, strict=True))

    def _per_mode(D, modes, base):
        per = [[] for _ in base]
        for d, u in zip(D, modes.T, strict=True):
            y = threshold * P * u * d.abs().sqrt()
            for i, r in enumerate(averaged_rate(lowered, a, g, y)):
                per[i].append((d, r))
        return per

    def margin(X):
        w1, a1 = move(X)
        return U.T @ (threshold * torch.diag(spread(a1)) - hessian(w1)) @ U

    zero = w.new_zeros(k, k)
    A = margin(zero)
    B = np.zeros((k, k, k, k))
    scale = 1e-2
    for i in range(k):
        for j in range(i + 1):
            E = zero.clone()
            E[i, j] = E[j, i] = scale
            column = ((margin(E) - A) / scale).numpy() / (1 if i == j else 2)
            B[:, :, i, j] = B[:, :, j, i] = column
    reference = solve_sdcp(((A + A.T) / 2).numpy(), (B + B.transpose(1, 0, 2, 3)) / 2)

    flow = AveragedFlow(context, w, lowered.initial(), "central", oscillates=True)
    flow.before, flow._fresh = a, False
    flow._updated = lambda g, h: a
    flow._substep(H_STEP)
    mine = torch.as_tensor(flow._last.U @ flow._last.X @ flow._last.U.T)
    Sigma = U @ torch.as_tensor(reference.X) @ U.T
    # The reference is first order in h and in the finite differences; λ ≠ λ* by 1e-4 is amplified by 1/h in both alike.
    assert float((mine - Sigma).norm() / Sigma.norm()) < 0.02
    assert float(Sigma.norm()) > 0
