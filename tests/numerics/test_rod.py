"""The rod flow [Rod]: its published equations for gradient descent, its thresholds, and the 2-cycle where no central flow exists."""

from functools import cache

import numpy as np
import pytest
import torch

from numerics import Problem, simulate
from numerics.lowered import lower
from numerics.processes import Context, Rod
from tests.numerics.problems import small_problem
from theory import derive

derived = cache(derive)

# Rules with a constant preconditioner: their threshold is not moved by the rod itself.
CONSTANT = {
    "gd": dict(lr=1.0),
    "heavy_ball": dict(lr=1.0, momentum=0.9),
    "nesterov": dict(lr=1.0, momentum=0.9),
    "qhm": dict(lr=1.0, momentum=0.9, weight=0.7),
}


def rod_of(rule, hyper, problem):
    lowered = lower(derived(rule).emitted, hyper, problem.blocks, problem.w0)
    rod = Rod(Context(problem, lowered, True, 0), problem.w0, lowered.initial())
    rod._place(problem.gradient(problem.w0)[1])
    rod._fresh = False
    return rod


def quadratic(curvatures):
    curvature = torch.tensor(curvatures, dtype=torch.float64)
    return Problem(lambda w: (curvature * w**2).sum() / 2, torch.ones(len(curvatures), dtype=torch.float64))


def edge_of(rule):
    """λ*P, the curvature at the edge."""
    lowered = lower(derived(rule).emitted, CONSTANT[rule], (1,), torch.ones(1, dtype=torch.float64))
    a = lowered.select(lowered.initial())
    return float(lowered.f.threshold(a)) * float(lowered.f.preconditioner(a))


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("rule", CONSTANT)
def test_at_a_minimum_it_grows_above_the_threshold_only(rule, side):
    """A rod of two iterates, its centre put to rest: Σ grows iff λ > λ*, whatever the filter; for gradient descent iff ηλ > 2."""
    rod = rod_of(rule, CONSTANT[rule], quadratic([edge_of(rule) * (1 + 0.02 * side)]))
    rod.centre = torch.zeros_like(rod.centre)
    sizes = []
    for _ in range(80):
        rod._substep(0.25)
        sizes.append(float(rod.half[0, 0].abs()))
    assert not bool(rod.centre.any())
    assert (sizes[-1] > sizes[-10]) == (side > 0)


@pytest.mark.parametrize("rule", CONSTANT)
def test_away_from_the_minimum_it_is_forced_at_once(rule):
    """Σ = 0 stays 0 where the gradient is 0 and nowhere else, far below the threshold too."""
    rod = rod_of(rule, CONSTANT[rule], quadratic([0.1 * edge_of(rule)]))
    rod.half = torch.zeros_like(rod.half)
    rod._substep(0.25)
    assert float(rod.half[0, 0].abs()) > 0.01 * float(rod.centre[0, 0].abs())
    rod.centre, rod.half = torch.zeros_like(rod.centre), torch.zeros_like(rod.half)
    rod._substep(0.25)
    assert not bool(rod.half.any())


@pytest.mark.parametrize("rule", ["gd", *(pytest.param(r, marks=pytest.mark.slow) for r in CONSTANT if r != "gd")])
def test_on_a_quartic_it_settles_on_the_two_cycle_where_no_central_flow_exists(rule):
    """½Sx² − (Q/4)x⁴: amplitude² = (S − λ*P)/Q, the optimizer's own 2-cycle; ∇H = 0 at 0, so that ℬ = 0 (THEORY section 8)."""
    edge, Q = edge_of(rule), 0.3
    S = 1.1 * edge

    def loss(w):
        return (S * w**2 / 2 - Q * w**4 / 4).sum()

    problem, near = (Problem(loss, torch.full((1,), x, dtype=torch.float64)) for x in (0.0, 1e-2))
    rod = rod_of(rule, CONSTANT[rule], near)
    rod.centre = torch.zeros_like(rod.centre)
    for _ in range(1500):
        rod._substep(0.25)
    amplitude2 = (S - edge) / Q
    assert float(rod.half[0, 0]) ** 2 == pytest.approx(amplitude2, rel=1e-6)
    run = simulate(near, rule, CONSTANT[rule], 400 if rule == "gd" else 900, processes=("discrete",), check=False)
    assert run["discrete"].weights[0] ** 2 == pytest.approx(amplitude2, rel=1e-6)
    central = simulate(problem, rule, CONSTANT[rule], 3, processes=("central",), check=False)
    assert "no solution" in central.manifest["stopped"]["central"]


def test_for_gradient_descent_it_is_the_published_flow():
    """One tiny step against the equations of THEORY section 8, with dense Hessians; Σ by its projection on rank 1."""
    problem, eta, h = small_problem(), 0.7, 1e-6
    rod = rod_of("gd", dict(lr=eta), problem)
    w, d = rod.centre[0].clone(), rod.half[0].clone()
    rod._substep(h)
    g = [problem.gradient(w + s * d)[1] for s in (1, -1)]
    H = [problem.linearise(w + s * d).hessian_product(torch.eye(len(w), dtype=w.dtype)) for s in (1, -1)]
    total = g[0] + g[1]
    dw = -eta / 2 * total - eta**2 / 8 * (H[0] + H[1]) @ total
    torch.testing.assert_close((rod.centre[0] - w) / h, dw, rtol=1e-4, atol=1e-6)
    rate = eta**2 / 4 * (torch.outer(g[0], g[0]) + torch.outer(g[1], g[1])) - 2 * torch.outer(d, d)
    u = d / d.norm()
    across = torch.eye(len(d), dtype=d.dtype) - torch.outer(u, u)
    tangent = rate - across @ rate @ across  # d/dt of the best approximation of rank 1
    moved = (torch.outer(rod.half[0], rod.half[0]) - torch.outer(d, d)) / h
    torch.testing.assert_close(moved, tangent, rtol=1e-3, atol=1e-4 * float(rate.norm()))


@pytest.mark.parametrize("rule", CONSTANT)
def test_a_whole_step_of_the_centre_is_the_optimizer(rule):
    """(w₀ + w₁)/2 → (w₁ + w₂)/2 exactly, with the filter states: the flow is what interpolates these."""
    problem, hyper = small_problem(), CONSTANT[rule] | {"lr": 0.05}
    lowered = lower(derived(rule).emitted, hyper, problem.blocks, problem.w0)
    rod = rod_of(rule, hyper, problem)
    w, states, path = problem.w0, lowered.initial(), [problem.w0]
    for _ in range(2):
        w, states = lowered.f.step(w, problem.gradient(w)[1], states)
        path.append(w)
    rod._substep(1.0)
    torch.testing.assert_close(rod.centre[0], (path[1] + path[2]) / 2, rtol=1e-12, atol=1e-13)


def test_the_flow_interpolates_the_optimizer_to_second_order():
    """A step cut into eight differs from the whole one by O(η³), as the flow's own ½F′F leaves; without it, by O(η²)."""
    gaps = []
    for lr in (0.08, 0.04):
        ends = []
        for parts in (1, 8):
            rod = rod_of("gd", dict(lr=lr), small_problem())
            for _ in range(parts):
                rod._substep(1 / parts)
            ends.append(rod.centre[0])
        gaps.append(float((ends[0] - ends[1]).norm()))
    assert 6 < gaps[0] / gaps[1] < 10


@pytest.mark.parametrize(
    ("rule", "hyper"),
    [("gd", dict(lr=0.9)), ("rmsprop", dict(lr=0.02, beta2=0.95, eps=1e-4)), ("adam", dict(lr=0.02, beta1=0.5))],
)
def test_it_starts_on_the_optimizer_and_ends_near_it(rule, hyper):
    run = simulate(small_problem(), rule, hyper, 40, warm_start=3, processes=("discrete", "rod"), check=False)
    rod = run["rod"]
    np.testing.assert_array_equal(rod.weights_series[0], run["discrete"].weights_series[0])
    assert np.all((rod.truncated >= 0) & (rod.truncated < 1))
    moved = np.linalg.norm(run["discrete"].weights - run["discrete"].weights_series[0])
    assert np.linalg.norm(rod.weights - run["discrete"].weights) < 0.2 * moved
