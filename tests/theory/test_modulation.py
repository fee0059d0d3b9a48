"""Modulations of the oscillation: against the exact eigenvalues of the optimizer's own two-step map on a loss that sharpens."""

import numpy as np
import pytest
import sympy as sp
import torch

from numerics.lowered import lower
from theory import derive
from theory.symbols import z

_CASES = {
    "gd": {"lr": 0.2},
    "heavy_ball": {"lr": 0.1, "momentum": 0.9},
    "heavy_ball-ema": {"lr": 0.3, "momentum": 0.5, "ema": True},
    "nesterov": {"lr": 0.1, "momentum": 0.8},
    "qhm": {"lr": 0.2, "momentum": 0.9, "weight": 0.7},
}


def _numbers(d, hyper):
    return {d.rule_symbol(k): sp.nsimplify(v) for k, v in hyper.items() if not isinstance(v, bool)}


@pytest.fixture(params=_CASES, name="case")
def _case(request):
    """Derivation, its numbers, and the lowered rule."""
    hyper = _CASES[request.param]
    options = {k: v for k, v in hyper.items() if isinstance(v, bool)}
    d = derive(request.param.split("-")[0], **options)
    like = torch.zeros(2, dtype=torch.float64)
    numbers = _numbers(d, hyper) | {d.update.hyper[n]: h.default for n, h in d.rule.hyper.items() if n not in hyper}
    values = {n: float(numbers[s]) for n, s in d.update.hyper.items()}
    return d, numbers, lower(d.emitted, values, (2,), like)


def _loop_roots(d, numbers, alpha):
    """e^s of every modulation: zeros of 1 + 2αG_aG_x."""
    F, threshold = d.filter.subs(numbers), d.threshold.subs(numbers)
    flipped = F.subs(z, -z)
    G_a = -threshold * flipped / (-z - 1 + threshold * flipped)
    loop = sp.fraction(sp.cancel(sp.together(1 + 2 * sp.nsimplify(alpha) * G_a * F / (z - 1))))[0]
    return np.array([complex(r) for r in sp.Poly(loop, z).nroots(n=20)])


def _two_step_eigenvalues(d, numbers, rule, alpha):
    """Of the Jacobian of two optimizer steps at the 2-cycle of L = ½(S + v)x² − cv, w = (x, v), with S = λ*P."""
    P, threshold = (float(e.subs(numbers)) for e in (d.preconditioner, d.threshold))
    S, c = threshold * P, alpha * threshold * P * P
    x = (2 * c) ** 0.5

    def grad(w):
        return torch.stack([(S + w[1]) * w[0], w[0] ** 2 / 2 - c])

    def two_steps(state):
        w, states = state[:2], (*state[2:].reshape(-1, 2),)
        for _ in range(2):
            w, states = rule.f.step(w, grad(w), states)
        return torch.cat([w, *states])

    start, states = torch.tensor([x, 0.0], dtype=torch.float64), rule.initial()
    for t in range(2000):  # let the filters settle on the cycle
        w = start * torch.tensor([(-1.0) ** t, 1.0], dtype=torch.float64)
        _, states = rule.f.step(w, grad(w), states)
    cycle = torch.cat([start, *states])
    assert torch.allclose(two_steps(cycle), cycle, atol=1e-12)
    return np.linalg.eigvals(torch.func.jacrev(two_steps)(cycle).numpy())


@pytest.mark.parametrize("alpha", [1e-5, 1e-3, 0.02])
def test_modulations_are_eigenvalues_of_the_two_step_map(case, alpha):
    d, numbers, rule = case
    measured = _two_step_eigenvalues(d, numbers, rule, alpha)
    for root in _loop_roots(d, numbers, alpha):
        assert np.min(np.abs(measured - root**2)) < 1e-6  # roots come in near-pairs: half the digits


def test_growth_per_turn(case):
    d, numbers, _ = case
    rate, delay, lag = (
        float(sp.sympify(e).subs(numbers)) for e in (d.modulation.rate, d.modulation.delay, d.normal_form.lag)
    )
    alpha = 1e-4 / (rate * (lag + delay) ** 2)
    omega = (2 * alpha * rate) ** 0.5
    s = np.log(max(_loop_roots(d, numbers, alpha), key=lambda r: (abs(r), r.imag)))
    assert s.imag == pytest.approx(omega, rel=1e-3)
    assert s.real * 2 * np.pi / omega == pytest.approx(np.pi * (lag + delay) * omega, rel=1e-2)
