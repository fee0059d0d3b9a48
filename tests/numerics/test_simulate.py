"""End to end: rule → derivation → flow → comparison with training, on small problems."""

import sys

import numpy as np
import pytest
import torch

from numerics import InputRefused, Problem, simulate
from numerics.lowered import lower
from tests.numerics.problems import small_problem
from tests.theory.own_rule import own_rule
from theory import RuleRefused, derive, hyper, per_parameter, sqrt, update_rule

SETTINGS = {
    "gd": dict(lr=0.9),
    "scalar_rmsprop": dict(lr=0.3, beta2=0.95, eps=1e-6),
    "rmsprop": dict(lr=0.02, beta2=0.95, eps=1e-4),
}
RULES = [pytest.param(rule, hyper, id=rule) for rule, hyper in SETTINGS.items()]
RULES += [pytest.param(own_rule, dict(lr=0.3, beta2=0.9, eps=1e-3), id="own rule")]


@pytest.mark.parametrize(("rule", "hyper"), RULES)
def test_every_rule_runs_all_processes_and_keeps_the_margin(rule, hyper):
    run = simulate(small_problem(), rule, hyper, 60, warm_start=3, kick=1e-3)
    central = run["central"]
    assert not run.manifest["stopped"]
    assert central.loss.shape == (60,)
    active = central.critical > 0
    inside = active[1:] & active[:-1]
    ratio = central.eigenvalues[:, 0] / central.threshold
    assert np.all(np.abs(ratio[1:][inside] - 1) < 0.03)
    assert np.all(central.predicted_loss >= central.loss - 1e-15)


@pytest.mark.parametrize(("rule", "hyper"), RULES)
def test_without_oscillation_central_is_stable(rule, hyper):
    gentle = hyper | {"lr": hyper["lr"] / 50}
    run = simulate(small_problem(), rule, gentle, 15, processes=("stable", "central"))
    assert np.nanmax(run["central"].critical) == 0
    assert np.array_equal(run["central"].weights, run["stable"].weights)


@pytest.mark.parametrize(("rule", "hyper"), RULES)
def test_below_the_edge_the_flow_is_the_optimizer_itself(rule, hyper):
    """At h = 1, forward Euler in w and implicit Euler in the accumulators are the discrete update."""
    gentle = hyper | {"lr": hyper["lr"] / 50}
    run = simulate(small_problem(), rule, gentle, 15)
    np.testing.assert_allclose(run["central"].weights, run["discrete"].weights, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("rule", "hyper"), RULES[1:])
def test_accumulators_match_the_brute_force_average_over_signs(rule, hyper):
    """The generated X-coefficients equal the mean of the discrete update over ±δ, to second order (slope 4 in δ)."""
    problem = small_problem(1)
    lowered = lower(derive(rule).emitted, hyper, problem.blocks, problem.w0)
    states = lowered.initial()
    w = problem.w0
    for _ in range(3):
        w, states = lowered.f.step(w, problem.gradient(w)[1], states)
    a, g = lowered.select(states), problem.gradient(w)[1]
    y = torch.randn(problem.n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    errors = []
    for size in (1e-2, 1e-1):
        step = size * y
        signs = (lowered.f.accumulator_map(a, (), (), g + s * step) for s in (1, -1))
        brute = [(p + m) / 2 for p, m in zip(*signs, strict=True)]
        mean, rate = lowered.f.accumulator_map(a, (), (), g), lowered.f.accumulator_rate_X(a, (), (), g, step, step)
        # (T7): rate = (∂f/∂a)⁻¹ × the oscillation's part of the map
        slope = lowered.f.memory(a, (), (), g)
        errors.append(
            max(
                float(torch.as_tensor(b - m - slope * r).abs().max()) for b, m, r in zip(brute, mean, rate, strict=True)
            )
        )
    assert errors[1] < 1e-12 * float(y.abs().max()) ** 2 or errors[0] < errors[1] / 1e3


def test_options_and_schedules_run():
    hyper = dict(lr="0.02*exp(-t/100)", beta2=0.95, eps=1e-4, bias_correction=True)
    run = simulate(small_problem(), "rmsprop", hyper, 20)
    assert run["central"].states["t"] == 20
    assert np.isfinite(run["central"].loss).all()


def test_dead_coordinates_do_not_give_nan():
    base = small_problem()

    def loss(w):
        return base.loss(w[:-2])

    problem = Problem(loss, torch.cat([base.w0, base.w0.new_ones(2)]))
    run = simulate(problem, "rmsprop", SETTINGS["rmsprop"], 40, warm_start=3)
    assert np.nanmax(run["central"].critical) > 0
    assert np.isfinite(run["central"].weights).all()


def test_state_is_the_optimizers_own(tmp_path):
    problem = small_problem()
    lowered = lower(derive("rmsprop").emitted, SETTINGS["rmsprop"], problem.blocks, problem.w0)
    w, states = problem.w0, lowered.initial()
    for _ in range(5):
        w, states = lowered.f.step(w, problem.gradient(w)[1], states)
    moved = Problem(problem.loss, w, blocks=problem.blocks)
    given = simulate(moved, "rmsprop", SETTINGS["rmsprop"], 10, state={"nu": states[0], "t": 5})
    warm = simulate(problem, "rmsprop", SETTINGS["rmsprop"], 10, warm_start=5)
    np.testing.assert_array_equal(given["central"].weights, warm["central"].weights)


class _Interrupted(Exception):
    pass


def test_a_run_is_reproducible_and_resumes(tmp_path, monkeypatch):
    problem, hyper = small_problem(), SETTINGS["rmsprop"]
    whole = simulate(problem, "rmsprop", hyper, 30, out=tmp_path / "whole")

    def stop(done, steps):
        if done == 20:
            raise _Interrupted

    monkeypatch.setattr(sys.modules["numerics.simulate"], "COMMIT_EVERY", 0.0)
    with pytest.raises(_Interrupted):
        simulate(problem, "rmsprop", hyper, 30, out=tmp_path / "part", progress=stop)
    resumed = simulate(problem, "rmsprop", hyper, 30, out=tmp_path / "part", resume=True)
    for name in ("discrete", "stable", "central"):
        np.testing.assert_array_equal(resumed[name].weights, whole[name].weights)
        np.testing.assert_array_equal(resumed[name].loss, whole[name].loss)


def test_divergence_keeps_the_data():
    run = simulate(small_problem(), "gd", dict(lr=60.0), 40, processes=("discrete",))
    assert "diverged" in run.manifest["stopped"]["discrete"]
    assert np.isfinite(run["discrete"].loss[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(hyper=dict(lr=0.0)), "lr must be a number in (0"),
        (dict(hyper=dict(lr=-1.0)), "lr must be"),
        (dict(hyper=dict(lr=0.1, beta2=1.0)), "beta2 must be"),
        (dict(hyper=dict(lr=0.1, beta2=0.0)), "no memory"),
        (dict(hyper={}), "needs lr"),
        (dict(hyper=dict(lr=0.1, gamma=1.0)), "no hyperparameter 'gamma'"),
        (dict(steps=0), "steps must be"),
        (dict(processes=("discret",)), "processes must be"),
        (dict(state={"mu": 1.0}), "state has no 'mu'"),
        (dict(state={"nu": torch.zeros(3)}), "must be"),
        (dict(resume=True), "needs out="),
        (dict(kick=float("nan")), "kick must be"),
    ],
)
def test_bad_arguments_are_refused(change, words):
    arguments = dict(rule="rmsprop", hyper=dict(lr=0.01), steps=2) | change
    with pytest.raises(InputRefused, match=words.replace("(", r"\(").replace("[", r"\[")):
        simulate(small_problem(), **arguments)


def test_unknown_rule_is_refused():
    with pytest.raises(RuleRefused, match="did you mean 'rmsprop'"):
        simulate(small_problem(), "rmsprp", dict(lr=0.1), 2)


def test_memoryless_rule_still_trains():
    run = simulate(
        small_problem(), "rmsprop", dict(lr=0.001, beta2=0.0, eps=1e-3), 3, processes=("discrete", "midpoint")
    )
    assert np.isfinite(run["discrete"].loss).all()


def test_existing_run_directory_is_refused(tmp_path):
    simulate(small_problem(), "gd", dict(lr=0.1), 2, out=tmp_path / "run")
    with pytest.raises(InputRefused, match="holds a run"):
        simulate(small_problem(), "gd", dict(lr=0.1), 2, out=tmp_path / "run")


def test_finer_steps_converge_to_the_same_flow():
    """Order: the distance to a finely resolved flow falls with the step length."""
    ends = {}
    for substeps in (1, 2, 4, 16):
        run = simulate(
            small_problem(), "gd", SETTINGS["gd"], 20, processes=("central",), substeps=substeps, check=False
        )
        ends[substeps] = run["central"].weights
    errors = [np.linalg.norm(ends[s] - ends[16]) for s in (1, 2, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_one_changed_coefficient_changes_both_trajectories():
    def variant(numerator):
        @update_rule(lr=hyper("(0, oo)"), beta2=hyper("[0, 1)", default=0.9), nu=per_parameter(nonnegative=True))
        def changed(s):
            s.nu = s.beta2 * s.nu + numerator * (1 - s.beta2) * s.g**2
            s.w = s.w - s.lr * s.g / sqrt(s.nu + 1)

        return changed

    one, two = (simulate(small_problem(), variant(c), dict(lr=0.3), 5) for c in (1, 2))
    for process in ("discrete", "stable", "central"):
        assert np.linalg.norm(one[process].weights - two[process].weights) > 1e-6
