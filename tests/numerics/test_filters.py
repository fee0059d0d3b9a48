"""Flows that keep the filter: without oscillation the averaged map is the optimizer; at the edge they predict it."""

import sys

import numpy as np
import pytest
import torch

from numerics import Problem, simulate
from tests.numerics.problems import small_problem
from theory import derivable_rules, derive

GENTLE = {
    "heavy_ball": dict(lr=0.01),
    "nesterov": dict(lr=0.01),
    "qhm": dict(lr=0.05),
    "adam": dict(lr=1e-3),
    "adamw": dict(lr=1e-3),
    "nadam": dict(lr=1e-3),
    "scalar_adam": dict(lr=0.02),
    "adabelief": dict(lr=1e-3, eps=1e-6),
    "rmsprop_momentum": dict(lr=1e-4),
}
FILTERED = [name for name in derivable_rules() if derive(name).normal_form.filters]


def test_every_rule_with_a_filter_has_a_gentle_setting():
    assert set(FILTERED) == set(GENTLE)


@pytest.mark.parametrize("name", GENTLE)
def test_without_oscillation_the_averaged_map_is_the_optimizer(name):
    """Below the edge, from raw momentum in mid-training: the same weights to round-off, whatever the bias correction."""
    run = simulate(small_problem(), name, GENTLE[name], 40, warm_start=3, processes=("discrete", "stable"), check=False)
    start = run["discrete"].weights_series[0]
    gap, moved = (np.linalg.norm(run["discrete"].weights - other) for other in (run["stable"].weights, start))
    assert run["stable"].eigenvalues[:, 0].max() < 0.8 * run["stable"].threshold.min()
    assert gap < 1e-9 * moved


def test_inertial_flow_converges_to_second_order_in_the_filter_only():
    """One pole of equal lag, from m(0): near the optimizer on a slow quadratic, far from it if m starts at ∇L (THEORY section 4)."""
    curvature = torch.tensor([0.002, 0.004], dtype=torch.float64)
    problem = Problem(lambda w: (curvature * w**2).sum() / 2, torch.ones(2, dtype=torch.float64))
    hyper = dict(lr=1.0, momentum=0.8, ema=True)
    run = simulate(
        problem,
        "heavy_ball",
        hyper,
        120,
        processes=("discrete", "inertial"),
        substeps=50,
        state=dict(m=[0.0, 0.0]),
        check=False,
    )
    gap = np.abs(run["discrete"].weights - run["inertial"].weights).max()
    moved = np.abs(run["discrete"].weights - 1).max()
    assert gap < 2e-3 * moved


def test_flows_with_a_filter_resume(tmp_path, monkeypatch):
    """Bit for bit, each with its own filter states."""
    hyper, names = dict(lr=0.02, beta1=0.9, beta2=0.95), ("discrete", "midpoint", "central", "inertial")
    settings = dict(warm_start=5, processes=names, check=False)
    whole = simulate(small_problem(), "adam", hyper, 30, **settings)
    monkeypatch.setattr(sys.modules["numerics.simulate"], "COMMIT_EVERY", 0.0)

    def stop(done, steps):
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(small_problem(), "adam", hyper, 30, out=tmp_path / "run", progress=stop, **settings)
    resumed = simulate(small_problem(), "adam", hyper, 30, out=tmp_path / "run", resume=True, **settings)
    for name in ("central", "inertial"):
        np.testing.assert_array_equal(resumed[name].weights, whole[name].weights)


def test_no_memory_of_the_gradient_at_beta1_zero():
    """Adam at β₁ = 0 is RMSProp with bias correction, also as a flow."""
    hyper, names = dict(lr=0.01, beta2=0.95, eps=1e-4), ("discrete", "central")
    adam = simulate(small_problem(), "adam", hyper | dict(beta1=0.0), 30, processes=names, check=False)
    plain = simulate(small_problem(), "rmsprop", hyper | dict(bias_correction=True), 30, processes=names, check=False)
    for name in names:
        np.testing.assert_allclose(adam[name].weights, plain[name].weights, rtol=1e-9)


@pytest.mark.parametrize("substeps", [1, 4])
def test_substeps_share_the_time_of_a_step(substeps):
    """The counter advances by one per optimizer step however finely the flow is resolved."""
    hyper = dict(lr=1e-3, beta2=0.9, eps=1e-4)
    run = simulate(small_problem(), "rmsprop", hyper, 6, processes=("stable",), substeps=substeps, check=False)
    # The first update is the optimizer's own and counts as a whole step, so the count is up to one ahead.
    assert 6 <= run["stable"].states["t"] < 7
