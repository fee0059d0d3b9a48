"""The stationary flow: which Σ it has (THEORY section 7), and that the preconditioner is at rest with it."""

from functools import cache

import numpy as np
import pytest
import torch

from numerics import simulate
from numerics.derivatives import LocalDerivatives
from numerics.lowered import lower
from numerics.processes import Context, StationaryFlow
from numerics.sdcp import solve_sdcp, solve_with_trace
from tests.numerics.problems import small_problem
from theory import RuleRefused, derive

derived = cache(derive)

AT_THE_EDGE = {
    "scalar_rmsprop": dict(lr=0.3, eps=1e-6),
    "rmsprop": dict(lr=0.02, eps=1e-4),
    "rmsprop_momentum": dict(lr=0.01, momentum=0.5, eps=1e-4),
    "adam": dict(lr=0.02, beta1=0.5, eps=1e-4),
    "scalar_adam": dict(lr=2.0, beta1=0.5, eps=1e-4),
}


def flow_of(rule, problem):
    lowered = lower(derived(rule).emitted_at_rest, AT_THE_EDGE[rule] | {"beta2": 0.9}, problem.blocks, problem.w0)
    return StationaryFlow(Context(problem, lowered, True, 0), problem.w0, lowered.initial())


def one_edge_step(rule, steps=40):
    """Walk to a point with oscillation; return the flow after the step there, with the weights at which the step was taken."""
    flow = flow_of(rule, small_problem())
    for _ in range(steps):
        w = flow.w
        flow.step()
        if flow._last.X.numel() and float(flow._last.X.diagonal().sum()) > 0:
            return flow, w
    pytest.fail("no oscillation: the setting does not reach the edge")


@pytest.mark.parametrize("rule", AT_THE_EDGE)
def test_the_accumulator_is_at_rest_with_the_multiplier(rule):
    """(T13) ψ⁻¹(p) − g² = λ*²p²Σ_ii, and Z ⟂ λ*P − H: the KKT system of (T14)."""
    flow, w = one_edge_step(rule)
    o, g = flow._last, flow.context.problem.gradient(w)[1]
    P = flow.context.preconditioner(flow.before).expand(len(w))
    nu = flow.context.rule.f.accumulators_at_rest(flow.before, (P[:1] if flow.scalar else P,))[0]
    square = torch.einsum("nk,nl,kl->n", o.y, o.y, o.X)
    mean = g.square().sum() + square.sum() if flow.scalar else g.square() + square
    assert torch.allclose(nu, mean.expand_as(nu), rtol=1e-6, atol=1e-6 * float(nu.max()))
    H = flow.context.problem.linearise(w).hessian_product(torch.eye(len(w), dtype=w.dtype))
    margin = flow.threshold * torch.diag(P) - H
    assert float(torch.linalg.eigvalsh(margin).min()) > -1e-6 * float(P.max())
    sigma = o.U @ o.X @ o.U.T
    assert abs(float((margin * sigma).sum())) < 1e-6 * float((torch.diag(P) * sigma).sum()) * flow.threshold


@pytest.mark.parametrize("rule", ["scalar_rmsprop", "rmsprop"])
def test_it_is_the_limit_of_fast_accumulators(rule):
    """The central flow tends to it as β₂ → 0, at first order in β₂."""
    problem, gaps = small_problem(), []
    hyper, steps = (dict(lr=0.3, eps=1e-6), 8) if rule == "scalar_rmsprop" else (dict(lr=0.02, eps=1e-3), 4)
    rest = simulate(problem, rule, hyper, 1, processes=("stationary",), check=False)["stationary"]
    start = dict(nu=rest.states_series["nu"][0], t=100)
    for beta2 in (0.5, 0.1):
        run = simulate(
            problem,
            rule,
            hyper | dict(beta2=beta2),
            steps,
            processes=("central", "stationary"),
            state=start,
            substeps=8,
            check=False,
        )
        assert np.nansum(run["stationary"].variances) > 0
        gaps.append(np.linalg.norm(run["central"].weights - run["stationary"].weights))
    assert gaps[1] < gaps[0] / 4


@pytest.mark.parametrize("rule", ["scalar_rmsprop", "rmsprop"])
def test_a_preconditioner_held_still_would_give_another_covariance(rule):
    """(T10) with Ṗ = 0, the other reading of "Σ defined by (T10) for that P(w)", leaves the accumulator off its rest."""
    flow, w = one_edge_step(rule)
    local: LocalDerivatives = flow.context.problem.linearise(w)
    U, f, a = flow._last.U, flow.context.rule.f, flow.before
    T, k = local.third(U), U.shape[1]
    flat = T.reshape(k * k, -1)
    A = -(flat @ f.velocity(a, w, local.grad)).reshape(k, k)
    B = -(flat @ f.velocity_X(a, T).reshape(k * k, -1).T).reshape(k, k, k, k)
    still = torch.as_tensor(solve_sdcp(((A + A.T) / 2).numpy(), B.numpy()).X)
    ours = flow._last.X
    assert float((still - ours).norm()) > 0.1 * float(ours.norm())


@pytest.mark.parametrize("rule", ["scalar_rmsprop", "adam"])
def test_the_margin_is_kept_and_the_gap_recorded(rule):
    run = simulate(
        small_problem(), rule, AT_THE_EDGE[rule] | {"beta2": 0.9}, 15, processes=("stationary",), check=False
    )
    flow = run["stationary"]
    assert not run.manifest["stopped"]
    assert flow.gap.shape == (15,)
    assert flow.gap.max() < (1e-8 if "scalar" not in rule else 0.05)
    assert flow.critical.max() > 0
    assert np.all(flow.eigenvalues[:, 0] <= flow.threshold * (1 + 1e-4))
    assert "t" not in flow.states


@pytest.mark.parametrize("seed", range(6))
def test_a_given_trace_is_shared_by_complementarity(seed):
    """0 ⪯ X ⟂ μ1 + A + ℬ[X] ⪰ 0 with the trace, for some μ; checked without the solver."""
    rng = np.random.default_rng(seed)
    k, n, trace = 2 + seed % 3, 9, 0.5 + seed
    T = rng.standard_normal((k, k, n))
    T, A = (T + T.transpose(1, 0, 2)) / 2, np.diag(np.sort(rng.random(k)))
    B = np.einsum("ijn,kln->ijkl", T, T) / n
    X = solve_with_trace(A, B, trace)
    S = A + np.einsum("ijkl,kl->ij", B, X)
    mu = -np.trace(X @ S) / trace  # from ⟨X, μ1 + S⟩ = 0
    assert np.trace(X) == pytest.approx(trace, rel=1e-9)
    assert np.linalg.eigvalsh(X).min() > -1e-8 * trace
    assert np.linalg.eigvalsh(S + mu * np.eye(k)).min() > -1e-6 * np.linalg.norm(S)


def test_the_trace_goes_to_the_lowest_direction_where_nothing_else_tells():
    X = solve_with_trace(np.diag([0.0, 1.0]), np.zeros((2, 2, 2, 2)), 3.0)
    np.testing.assert_allclose(X, np.diag([3.0, 0.0]))


@pytest.mark.parametrize(
    ("rule", "hyper", "words"),
    [
        ("gd", dict(lr=0.1), "P does not depend on the gradient"),
        ("adagrad", dict(lr=0.1), "no fixed point"),
        ("adabelief", dict(lr=0.1), "the solver covers"),
        ("rmsprop", dict(lr="0.1/sqrt(t)"), "while lr varies in time"),
    ],
)
def test_a_rule_without_a_fixed_point_is_refused_before_anything_runs(rule, hyper, words):
    def untouched(w):
        raise AssertionError("the loss was evaluated")

    problem = small_problem()
    problem.loss = untouched
    with pytest.raises(RuleRefused, match=words):
        simulate(problem, rule, hyper, 2, processes=("discrete", "stationary"))
