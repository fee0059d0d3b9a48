"""Nothing is created off the inputs' device: with the meta device as default and CPU inputs, a stray factory call raises."""

import numpy as np
import pytest
import torch

from numerics import simulate
from tests.numerics.problems import small_problem

SETTINGS = {
    "gd": dict(lr=0.9),
    "scalar_rmsprop": dict(lr=0.3, beta2=0.95, eps=1e-6),
    "rmsprop": dict(lr=0.02, beta2=0.95, eps=1e-4),
    "full_matrix_rmsprop": dict(lr=0.1, beta2=0.95, eps=0.1),
}


@pytest.mark.parametrize("rule", SETTINGS)
def test_whole_runs_follow_their_inputs(rule):
    problem = small_problem()
    with torch.device("meta"):
        run = simulate(problem, rule, SETTINGS[rule], 25, warm_start=2, kick=1e-3)
    assert not run.manifest["stopped"]
    assert np.isfinite(run["central"].loss).all()


@pytest.mark.gpu
@pytest.mark.parametrize("rule", SETTINGS)
def test_cuda_agrees_with_the_cpu(rule):
    if not torch.cuda.is_available():
        pytest.fail("no CUDA device: run without the gpu marker")
    problem = small_problem()
    moved = small_problem(device="cuda")
    cpu, gpu = (
        simulate(p, rule, SETTINGS[rule], 20, warm_start=2, processes=("stable", "central")) for p in (problem, moved)
    )
    np.testing.assert_allclose(gpu["central"].predicted_loss, cpu["central"].predicted_loss, rtol=1e-6)
