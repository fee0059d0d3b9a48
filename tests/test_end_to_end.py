"""Real training against its prediction: RMSProp on the digits network, short enough for every test run."""

import numpy as np
import pytest

from numerics import Problem, simulate
from numerics.data import digits
from numerics.models import MLP


@pytest.fixture(scope="module")
def run():
    problem = Problem.from_module(MLP(seed=0), digits(300), "mse")
    return simulate(problem, "rmsprop", dict(lr=0.002, beta2=0.99, eps=1e-6), 100, warm_start=60)


def test_central_flow_predicts_training(run):
    """Bars are those of the full protocol (0.93, 5 %), which five seeds clear at 250 steps with room to spare."""
    figures = run.summary()
    assert run["central"].critical.max() >= 2
    assert figures.deviation_explained > 0.93
    assert figures.predicted_loss_error < 0.05
    assert figures.stable_loss_error > 2 * figures.predicted_loss_error


def test_critical_modes_stay_at_the_threshold(run):
    central = run["central"]
    settled = slice(20, None)
    active = central.critical[settled] > 0
    ratio = central.eigenvalues[settled, 0] / central.threshold[settled]
    assert active.any()
    assert np.abs(ratio[active] - 1).max() < 0.005
