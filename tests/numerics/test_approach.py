"""A start below the edge: the learning rate it gives, and the rules it refuses."""

import pytest
import torch

from numerics import InputRefused, Problem
from numerics.approach import STEPS, approach_edge
from numerics.eigen import independent_top_eigenvalues
from numerics.lowered import lower
from numerics.processes import Context
from tests.numerics.problems import small_problem
from theory import derive

HYPER = {
    "gd": {},
    "heavy_ball": dict(momentum=0.9),
    "scalar_rmsprop": dict(beta2=0.95, eps=1e-6),
    "rmsprop": dict(beta2=0.95, eps=1e-6),
    "adam": dict(beta1=0.9, beta2=0.95, eps=1e-8),
}


def lowered(problem, rule, hyper, *rates):
    return [lower(derive(rule).emitted, hyper | {"lr": lr}, problem.blocks, problem.w0) for lr in rates]


@pytest.mark.parametrize("rule", HYPER)
def test_the_start_is_below_the_edge_by_the_fraction_promised(rule):
    problem = small_problem()
    with torch.device("meta"):
        start = approach_edge(problem, *lowered(problem, rule, HYPER[rule], 1.0, 2.0))
    (own,) = lowered(problem, rule, HYPER[rule], start.lr)
    local = problem.linearise(start.w)
    w_next, states = own.f.step(start.w, local.grad, own.pack(start.state))
    a = own.select(states)
    P = Context(problem, own, False, 0).preconditioner(a).expand(problem.n)
    top = float(independent_top_eigenvalues(local.hessian_product, P, 1)[0])
    assert top / float(own.f.threshold(a)) == pytest.approx(0.95, abs=1e-3)
    assert start.step == pytest.approx(float((w_next - start.w).norm() / start.w.norm()))
    assert problem.value(start.w) < problem.value(problem.w0)
    if "t" in start.state:
        assert int(start.state["t"]) == STEPS


def test_the_warm_up_of_gradient_descent_is_its_definition():
    problem = small_problem()
    w = problem.w0
    for _ in range(STEPS):
        H, g = torch.func.hessian(problem.loss)(w), problem.gradient(w)[1]
        w = w - min(0.25 * 2 / torch.linalg.eigvalsh(H)[-1], 0.01 * w.norm() / g.norm()) * g
    start = approach_edge(problem, *lowered(problem, "gd", {}, 1.0, 2.0))
    torch.testing.assert_close(start.w, w, rtol=1e-4, atol=1e-4)


def test_a_first_step_from_an_empty_accumulator_stays_short():
    problem = small_problem()
    rules = lowered(problem, "rmsprop", HYPER["rmsprop"], 1.0, 2.0)
    flat = Problem(
        lambda w: 1e-6 * problem.loss(w) + 1e-3 * w.sum(), problem.w0
    )  # little curvature: long steps are stable
    assert (approach_edge(flat, *rules).w - problem.w0).norm() < 1.01**STEPS * 0.01 * STEPS * problem.w0.norm()


def test_rules_that_are_not_proportional_to_their_learning_rate_are_refused():
    problem = small_problem()
    with pytest.raises(InputRefused, match=r"adamw.*choose a learning rate"):
        hyper = HYPER["adam"] | {"weight_decay": 0.1}
        approach_edge(problem, *lowered(problem, "adamw", hyper, 1.0, 2.0))


@pytest.mark.parametrize("rule", ["gd", "rmsprop"])
def test_a_gradient_that_is_zero_but_for_round_off_is_no_reason_to_refuse(rule):
    """As that of an attention's key bias: the step there is lost in the digits of w."""
    problem = small_problem()
    blind = Problem(
        lambda w: problem.loss(w[:-1]) + 1e-13 * w[-1], torch.cat([problem.w0, problem.w0.new_tensor([0.7])])
    )
    assert approach_edge(blind, *lowered(blind, rule, HYPER[rule], 1.0, 2.0)).lr > 0


def test_no_positive_curvature_is_refused():
    problem = Problem(lambda w: -(w**2).sum() - w.sum(), torch.ones(4, dtype=torch.float64))
    with pytest.raises(InputRefused, match="positive curvature"):
        approach_edge(problem, *lowered(problem, "gd", {}, 1.0, 2.0))
