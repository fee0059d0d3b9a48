"""Flows restarted at the first step of the edge, from the midpoint of weights and states."""

import numpy as np
import pytest

from numerics import InputRefused, restart_at_edge, simulate
from numerics.simulate import iterates
from tests.numerics.problems import small_problem

HYPER = dict(lr=0.1, beta1=0.5, beta2=0.95)


def test_flows_start_anew_on_the_edge_and_are_held_against_the_same_training():
    problem = small_problem()
    run = simulate(problem, "adam", HYPER, 60, warm_start=3, kick=1e-3, check=False)
    edge = run.summary().edge
    again = restart_at_edge(run, problem, "adam", HYPER, processes=("stable", "central"))
    first = again.manifest["restarted"]
    assert first == edge[0] > 1
    assert again.summary().edge == (0, edge[1] - first)
    np.testing.assert_array_equal(again["discrete"].loss, run["discrete"].loss[first:])
    for name in ("stable", "central"):
        assert again[name].steps == 60 - first
        np.testing.assert_allclose(again[name].weights_series[0], run["midpoint"].weights_series[first], rtol=1e-12)
    assert np.linalg.norm(again["central"].weights - run["central"].weights) > 0
    figures = again.summary()
    assert figures.deviation_explained is not None
    assert figures.stable_loss_error is not None


@pytest.mark.parametrize("step", [0, 1])
def test_the_path_is_that_of_the_discrete_process(step):
    """Weights bit for bit, with warm start and kick; states before the update there."""
    problem, settings = small_problem(), dict(warm_start=3, kick=1e-3, seed=2)
    run = simulate(problem, "adam", HYPER, 3, processes=("discrete",), check=False, **settings)
    path = iterates(problem, "adam", HYPER, **settings)
    for _ in range(step + 1):
        w, states = next(path)
    np.testing.assert_array_equal(w.numpy(), run["discrete"].weights_series[step])
    assert int(states["t"]) == 3 + step


def test_an_edge_at_row_0_restarts_from_the_start_itself():
    problem, hyper = small_problem(), dict(lr=1.2)
    run = simulate(problem, "gd", hyper, 40, warm_start=3, kick=1e-3, check=False)
    assert run.summary().edge[0] == 0
    again = restart_at_edge(run, problem, "gd", hyper, processes=("central",))
    np.testing.assert_array_equal(again["central"].weights_series[0], run["discrete"].weights_series[0])


def test_without_an_edge_there_is_nothing_to_restart():
    problem, hyper = small_problem(), dict(lr=0.01)
    run = simulate(problem, "gd", hyper, 30, check=False)
    with pytest.raises(InputRefused, match="reaches its edge"):
        restart_at_edge(run, problem, "gd", hyper)
