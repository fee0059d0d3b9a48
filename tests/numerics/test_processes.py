"""What holds of every process of a run: it runs on its inputs' device, resumes bit for bit, is recorded, and is described."""

import sys

import h5py
import numpy as np
import pytest
import torch

from numerics import InputRefused, simulate
from numerics.lowered import lower
from numerics.processes import AveragedFlow, Context
from numerics.simulate import ALL
from tests.numerics.problems import small_problem
from theory import derive

# Every process exists for this rule: it has a filter, adapts, and has a fixed point. It oscillates from the start.
RULE, HYPER = "adam", dict(lr=0.15, beta1=0.3, beta2=0.9, eps=1e-4)
SETTINGS = dict(warm_start=5, processes=ALL, check=False)


@pytest.fixture(scope="module")
def whole():
    return simulate(small_problem(), RULE, HYPER, 16, **SETTINGS)


def test_every_process_runs_to_the_end(whole):
    assert not whole.manifest["stopped"]
    assert set(whole.processes) == set(ALL)
    for name in ALL:
        record = whole[name]
        assert record.loss.shape == (16,)
        assert np.isfinite(record.weights).all()
        assert np.isfinite(record.eigenvalues[:, 0]).all()
        if name not in {"discrete", "midpoint"}:
            np.testing.assert_array_equal(record.weights_series[0], whole["stable"].weights_series[0])
            assert np.isfinite(record.predicted_loss).all()
            assert (record.cost["total"] > 0).all()
    for name in ("central", "inertial", "cross", "ablated", "stationary", "rod"):
        assert np.nanmax(whole[name].variances) > 0, name


def test_every_process_follows_its_inputs_device(whole):
    """With the meta device as default a stray factory call raises."""
    problem = small_problem()
    with torch.device("meta"):
        run = simulate(problem, RULE, HYPER, 16, **SETTINGS)
    assert not run.manifest["stopped"]
    for name in ALL:
        np.testing.assert_array_equal(run[name].weights, whole[name].weights)


def test_every_process_resumes_bit_for_bit_and_is_in_the_results(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["numerics.simulate"], "COMMIT_EVERY", 0.0)

    def stop(done, steps):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(small_problem(), RULE, HYPER, 16, out=tmp_path / "run", progress=stop, **SETTINGS)
    simulate(small_problem(), RULE, HYPER, 16, out=tmp_path / "run", resume=True, **SETTINGS)
    with h5py.File(tmp_path / "run" / "results.h5") as file:
        assert set(file) == set(ALL)
        for name in ALL:
            np.testing.assert_array_equal(file[name]["weights"][()], whole[name].weights)
            np.testing.assert_array_equal(file[name]["loss"][()], whole[name].loss)


def edge_flows(rule, hyper, **kinds):
    """Flows from one point with oscillation, where each has made one step."""
    problem = small_problem()
    lowered = lower(derive(rule).emitted, hyper, problem.blocks, problem.w0)
    flow = AveragedFlow(Context(problem, lowered, True, 0), problem.w0, lowered.initial(), "central", oscillates=True)
    for _ in range(60):
        kept = flow.state()
        flow.step()
        if flow._last.X.numel() and float(flow._last.X.diagonal().sum()) > 0:
            break
    flows = {}
    for name, kind in kinds.items():
        flows[name] = AveragedFlow(flow.context, problem.w0, lowered.initial(), name, **kind)
        flows[name].restore(kept)
        flows[name].step()
    return flows


@pytest.mark.parametrize(
    ("rule", "hyper"),
    [("rmsprop", dict(lr=0.02, beta2=0.95, eps=1e-4)), ("scalar_rmsprop", dict(lr=0.3, beta2=0.95, eps=1e-6))],
)
def test_without_the_curvature_term_weights_move_as_in_the_stable_flow(rule, hyper):
    """Ablated: X acts on the accumulators of the next step, and on nothing else; with one mode it must then be larger."""
    flows = edge_flows(
        rule,
        hyper,
        stable=dict(oscillates=False),
        central=dict(oscillates=True),
        ablated=dict(oscillates=True, regularises=False),
    )
    torch.testing.assert_close(flows["ablated"].w, flows["stable"].w, rtol=0, atol=0)
    assert float((flows["central"].w - flows["stable"].w).norm()) > 0
    central, ablated = (flows[name]._last.X for name in ("central", "ablated"))
    assert ablated.shape == central.shape
    assert len(central) == (1 if rule == "scalar_rmsprop" else 2)
    assert len(central) > 1 or float(ablated) > float(central)


def test_a_constant_preconditioner_has_no_ablated_flow():
    with pytest.raises(InputRefused, match=r"its preconditioner is constant.*ℬ = 0"):
        simulate(small_problem(), "gd", dict(lr=0.1), 2, processes=("discrete", "ablated"))


@pytest.mark.parametrize("rule", ["rmsprop", "adam"])
def test_with_the_cross_term_the_accumulators_average_is_of_fourth_order(rule):
    """E[g²] over w ± δ against the generated averages, mean gradient included: errors δ⁴ with g∘∇⟨H,Σ⟩, δ² without (T5)."""
    problem = small_problem(1)
    hyper = dict(lr=0.02, beta2=0.95, eps=1e-4)
    f, w = lower(derive(rule).emitted, hyper, problem.blocks, problem.w0).f, problem.w0
    local, state = problem.linearise(w), (torch.ones_like(w), w.new_ones(1))
    u = torch.randn(len(w), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    T, y = local.third(u[:, None], "exact")[0, 0], local.hessian_product(u[:, None])[:, 0]
    m = (torch.zeros_like(w),) if derive(rule).normal_form.filters else ()

    def rate(g):
        return f.accumulator_rate(state, m, m, g)[0]

    errors = []
    for size in (1e-3, 1e-2):
        brute = sum(rate(problem.gradient(w + s * size * u)[1]) for s in (1, -1)) / 2 - rate(local.grad)
        plain = size**2 * f.accumulator_rate_X(state, m, m, local.grad, y, y)[0]
        cross = size**2 * f.accumulator_rate_cross(state, m, m, local.grad, T)[0]
        errors.append([float((brute - plain).norm()), float((brute - plain - cross).norm())])
    (without_small, with_small), (without, kept) = errors
    assert 80 < without / without_small < 120
    assert kept / with_small > 5e3
