"""Flow steps of several optimizer steps: the polynomial, agreement with single steps, recording, resuming, refusals."""

import sys

import numpy as np
import pytest
import torch

from numerics import Problem, simulate
from numerics.data import digits
from numerics.errors import InputRefused
from numerics.models import MLP
from numerics.processes import ProcessStopped
from numerics.processes.stabilised import leap, stages_for
from tests.numerics.problems import small_problem
from tests.numerics.test_simulate import SETTINGS

F64 = torch.float64


@pytest.mark.parametrize("h", [2, 4, 16, 64])
def test_the_polynomial_is_bounded_up_to_the_largest_eigenvalue(h):
    largest = 2.0
    rates = torch.linspace(0, largest, 400, dtype=F64)
    one = torch.ones_like(rates)

    def increment(point):
        return (-rates * point[0],)

    end = leap(increment, (one,), increment((one,)), h, stages_for(h, largest))[0]
    assert end.abs().max() <= 1 + 1e-12


@pytest.mark.parametrize("h", [2, 8])
def test_it_matches_the_composed_map_to_second_order(h):
    """The error of y ↦ y + εF(y), composed h times, falls with ε³."""
    y = torch.tensor([0.3, -0.7], dtype=F64)
    errors = []
    for size in (1e-2, 5e-3):

        def increment(point, size=size):
            return (size * torch.stack([torch.sin(point[0][1]), -(point[0][0] ** 2) - point[0][1]]),)

        exact = (y,)
        for _ in range(h):
            exact = (exact[0] + increment(exact)[0],)
        errors.append((leap(increment, (y,), increment((y,)), h, 3)[0] - exact[0]).norm())
    assert errors[0] < 1e-2 * 1e-2 * h
    # At h = 2 the second-order composition is exact but for terms of third order, and these are what is left.
    assert errors[0] / errors[1] > 2**2.7


def test_too_few_stages_would_be_unstable():
    def increment(point):
        return (-2.0 * point[0],)

    one = torch.ones(1, dtype=F64)
    assert leap(increment, (one,), increment((one,)), 64, 4)[0].abs() > 10


@pytest.mark.parametrize("rule", list(SETTINGS))
def test_long_steps_predict_what_single_steps_predict(rule):
    """Small against what the oscillation changes, which is the stable flow's difference; and smaller for shorter steps."""
    one, two, four = (
        simulate(
            small_problem(),
            rule,
            SETTINGS[rule],
            80,
            processes=("central", "stable"),
            warm_start=20,  # the first steps are a transient outside the stable set
            check=False,
            stride=s,
        )
        for s in (1, 2, 4)
    )
    assert np.nanmax(one["central"].critical) > 0
    assert four["central"].loss.shape == (80,)
    scale = np.linalg.norm(one["stable"].weights - one["central"].weights)
    errors = [np.linalg.norm(r["central"].weights - one["central"].weights) / scale for r in (two, four)]
    assert errors[0] < errors[1] < 0.25


class _Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop", [13, 16])
def test_a_run_resumes_within_and_between_long_steps(tmp_path, monkeypatch, stop):
    arguments = dict(rule="rmsprop", hyper=SETTINGS["rmsprop"], steps=30, stride=4, processes=("central",), check=False)

    def interrupt(done, steps):
        if done == stop:
            raise _Interrupted

    monkeypatch.setattr(sys.modules["numerics.simulate"], "COMMIT_EVERY", 0.0)
    whole = simulate(small_problem(), **arguments)["central"]
    with pytest.raises(_Interrupted):
        simulate(small_problem(), **arguments, out=tmp_path / "part", progress=interrupt)
    resumed = simulate(small_problem(), **arguments, out=tmp_path / "part", resume=True)["central"]
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    np.testing.assert_array_equal(resumed.predicted_loss, whole.predicted_loss)


def test_the_stable_flow_takes_long_steps_too():
    gentle = SETTINGS["gd"] | {"lr": 0.05}
    one, eight = (
        simulate(small_problem(), "gd", gentle, 64, processes=("stable",), warm_start=20, check=False, stride=s)[
            "stable"
        ]
        for s in (1, 8)
    )
    np.testing.assert_allclose(eight.loss, one.loss, rtol=2e-3)
    moved = np.linalg.norm(one.weights - small_problem().w0.numpy())
    assert np.linalg.norm(eight.weights - one.weights) < 1e-3 * moved


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(stride=0), "stride must be"),
        (dict(stride=2.0), "stride must be"),
        (dict(stride=2, substeps=2), "1 with substeps"),
        (dict(stride=2, rule="rmsprop", hyper=dict(lr=0.01), processes=("stationary",)), "'stationary'"),
        (dict(stride=2, processes=("central", "rod")), "'rod'"),
        (dict(stride=2, rule="full_matrix_rmsprop", hyper=dict(lr=0.01)), "matrix"),
        (dict(stride=2, rule="heavy_ball", hyper=dict(lr=0.1, momentum=0.9)), "momentum"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(InputRefused, match=words):
        simulate(small_problem(), **(dict(rule="gd", hyper=dict(lr=0.1), steps=2, check=False) | change))


@pytest.mark.parametrize("name", ["ablated", "cross"])
def test_variants_of_the_central_flow_take_long_steps_too(name):
    one, two = (
        simulate(
            small_problem(), "rmsprop", SETTINGS["rmsprop"], 40, processes=(name,), warm_start=20, check=False, stride=s
        )[name]
        for s in (1, 2)
    )
    assert np.nanmax(one.critical) > 0
    moved = np.linalg.norm(one.weights - one.weights_series[0])
    # Against the way of the flow, whose oscillation the ablated one does not feel.
    assert np.linalg.norm(two.weights - one.weights) < 0.05 * moved


def test_accumulators_that_forget_fast_are_followed():
    """Below the edge, where the weights move slowly and the average of half a step's memory is what sets the stages."""
    hyper = dict(lr=1e-4, beta2=0.5, eps=1e-4)
    one, long = (
        simulate(small_problem(), "rmsprop", hyper, 200, processes=("stable",), check=False, stride=s)["stable"]
        for s in (1, 32)
    )
    assert np.all(long.states["nu"] >= 0)
    # With stages for the weights alone ν was off by more than its size.
    assert np.linalg.norm(long.states["nu"] - one.states["nu"]) < 0.1 * np.linalg.norm(one.states["nu"])


def test_the_last_states_are_those_used_in_the_last_step():
    for stride in (1, 2):
        run = simulate(small_problem(), "rmsprop", SETTINGS["rmsprop"], 31, processes=("stable",), stride=stride)
        series = run["stable"]["states_series"]["nu"]
        np.testing.assert_allclose(run["stable"].states["nu"], series[-1], rtol=1e-12)


def test_where_curvature_is_negative():
    hill = Problem(lambda w: torch.cos(w).sum(), torch.full((4,), 0.1, dtype=torch.float64))
    run = simulate(hill, "gd", dict(lr=0.01), 40, processes=("stable", "central"), stride=16)
    assert not run.manifest["stopped"] and np.isfinite(run["central"].loss).all()


def test_far_outside_the_stable_set_it_stops_at_once():
    run = simulate(small_problem(), "gd", dict(lr=1e9), 4, processes=("central",), stride=4, check=False)
    assert "far outside the stable set" in run.manifest["stopped"]["central"]


def failing(monkeypatch, where):
    """The covariance problem has no solution from a step on."""
    kind = sys.modules["numerics.processes.long_steps"].LongSteps
    whole = kind._move

    def move(self, step, h):
        if where(self, h):
            raise ProcessStopped("no way")
        return whole(self, step, h)

    monkeypatch.setattr(kind, "_move", move)


def test_a_flow_that_cannot_go_on_keeps_every_row_up_to_there(monkeypatch, tmp_path):
    made = []

    def where(flow, h):
        made.append(h)
        return len(made) > 3

    failing(monkeypatch, where)
    arguments = dict(
        rule="gd", hyper=dict(lr=0.05), steps=200, processes=("discrete", "central"), stride=4, check=False
    )
    run = simulate(small_problem(), **arguments, out=tmp_path / "run")
    rows = sum(made[:3])
    assert run.manifest["stopped"]["central"] == f"step {rows}: no way."
    assert np.isfinite(run["central"].loss).sum() == rows
    assert np.isfinite(run["central"].weights).all() and run.complete
    made.clear()
    assert not simulate(small_problem(), **arguments | {"steps": rows}).manifest["stopped"]  # it is not needed there


def test_a_run_resumes_after_a_flow_has_stopped(monkeypatch, tmp_path):
    failing(monkeypatch, lambda flow, h: flow.name == "central")
    monkeypatch.setattr(sys.modules["numerics.simulate"], "COMMIT_EVERY", 0.0)

    def interrupt(done, steps):
        if done == 5:
            raise _Interrupted

    arguments = dict(rule="gd", hyper=dict(lr=0.05), steps=12, processes=("stable", "central"), stride=4, check=False)
    with pytest.raises(_Interrupted):
        simulate(small_problem(), **arguments, out=tmp_path / "run", progress=interrupt)
    run = simulate(small_problem(), **arguments, out=tmp_path / "run", resume=True)
    assert run.complete and list(run.manifest["stopped"]) == ["central"] and len(run["stable"].loss) == 12


def test_a_step_of_three_is_tried_as_two(monkeypatch):
    failing(monkeypatch, lambda flow, h: False)
    kind = sys.modules["numerics.processes.long_steps"].LongSteps
    monkeypatch.setattr(kind, "_inside", lambda self, point: self._next_length < 3)
    run = simulate(small_problem(), "gd", dict(lr=0.05), 12, processes=("central",), stride=3, check=False)
    assert not run.manifest["stopped"]


def test_a_refused_stride_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputRefused, match="momentum"):
        simulate(small_problem(), "heavy_ball", dict(lr=0.1, momentum=0.9), 2, stride=2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_step_straddles_the_first_crossing_of_the_edge():
    problem = Problem.from_module(MLP(seed=0), digits(300), "mse")
    run = simulate(problem, "gd", dict(lr=0.3), 80, processes=("central",), stride=16, check=False)
    ratio = run["central"].eigenvalues[:, 0] / run["central"].threshold
    # Without a look at how fast it rises a step ended at 1.05 λ*; 1 % is the excess that lengths aim at.
    assert ratio[0] < 0.6 and 0.98 < ratio.max() < 1.02
