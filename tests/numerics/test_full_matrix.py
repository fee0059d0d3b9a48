"""A matrix preconditioner: operations, modes, a whole run, and where it settles."""

import numpy as np
import pytest
import scipy.linalg
import torch

from numerics import InputRefused, Problem, simulate, stationary_full_matrix
from numerics.eigen import EigenTracker
from numerics.lowered import lower
from numerics.matrix import Metric, matrix_operations, times
from tests.numerics.problems import small_problem
from theory import derive

F64 = torch.float64
RULE = "full_matrix_rmsprop"


def positive(n, seed=0, rank=None):
    M = np.random.default_rng(seed).standard_normal((n, rank or n))
    return M @ M.T / n


def test_root_and_its_derivative_against_scipy():
    V, D = positive(7), positive(7, 1) - np.eye(7)
    operations = matrix_operations(7, torch.zeros(7, dtype=F64))
    S = scipy.linalg.sqrtm(V).real
    tensor = torch.tensor(V)
    np.testing.assert_allclose(operations["matrix_sqrt"](tensor), S, rtol=1e-9, atol=1e-12)
    rates = operations["sqrt_rate"](tensor, torch.tensor(np.stack([D, 2 * D])))
    np.testing.assert_allclose(rates[1], 2 * scipy.linalg.solve_sylvester(S, S, D), rtol=1e-8, atol=1e-10)


def test_a_singular_root_has_a_finite_derivative_that_is_exact_on_its_range():
    V = positive(6, rank=2)
    operations = matrix_operations(6, torch.zeros(6, dtype=F64))
    S = operations["matrix_sqrt"](torch.tensor(V))
    assert int(torch.linalg.matrix_rank(S, atol=1e-10, rtol=0)) == 2
    np.testing.assert_allclose(S @ S, V, atol=1e-14)
    np.testing.assert_allclose(operations["sqrt_rate"](torch.tensor(V), torch.tensor(V)), S / 2, atol=1e-8)
    assert bool(torch.isfinite(operations["sqrt_rate"](torch.tensor(V), torch.eye(6, dtype=F64))).all())


def test_maps_take_any_leading_axes():
    M, random = torch.tensor(positive(5)) + torch.eye(5, dtype=F64), np.random.default_rng(2)
    x = torch.tensor(random.standard_normal((2, 3, 5)))
    operations = matrix_operations(5, x)
    torch.testing.assert_close(operations["apply"](M, operations["solve"](M, x)), x)
    outer = operations["outer"](x[:, :1], x[:, 1:])
    assert outer.shape == (2, 2, 5, 5)
    torch.testing.assert_close(outer[1, 0], (torch.outer(x[1, 0], x[1, 1]) + torch.outer(x[1, 1], x[1, 0])) / 2)
    metric = Metric(M, 5)
    torch.testing.assert_close(metric.up(metric.up(x[0].T)), times(M, x[0].T))
    torch.testing.assert_close(metric.down(metric.up(x[0].T)), x[0].T)


@pytest.mark.parametrize("n", [8, 60])
def test_modes_of_the_pencil(n):
    H = torch.tensor(np.diag(np.geomspace(3, 1e-3, n)) + positive(n, 1) / 10)
    P = torch.tensor(positive(n, 2) + np.eye(n) / 2)
    values, U = scipy.linalg.eigh(H.numpy(), P.numpy())
    tracker = EigenTracker(n)
    for _ in range(2):
        modes = tracker.track(lambda V: H @ V, P, float(values[-3]))
    k = int((modes.values >= values[-3] * 0.999).sum())
    assert modes.complete and k >= 3
    np.testing.assert_allclose(modes.values[:k], values[::-1][:k], rtol=1e-5)
    torch.testing.assert_close(modes.U.T @ P @ modes.U, torch.eye(len(modes.values), dtype=F64), rtol=0, atol=1e-10)
    torch.testing.assert_close(modes.HU, H @ modes.U, rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.abs(modes.U[:, 0].numpy() @ P.numpy() @ U[:, -1]), 1, atol=1e-4)


def test_an_indefinite_matrix_is_refused():
    with pytest.raises(InputRefused, match="positive definite"):
        EigenTracker(3).track(lambda V: V, torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=F64)), 1.0)


def test_discrete_steps_are_the_formula():
    hyper, n = dict(lr=0.1, beta2=0.9, eps=0.05), 6
    rule = lower(derive(RULE).emitted, hyper, (4, 2), torch.zeros(n, dtype=F64))
    w, states = torch.zeros(n, dtype=F64), rule.initial()
    V, x, random = np.zeros((n, n)), np.zeros(n), np.random.default_rng(0)
    for _ in range(30):
        g = random.standard_normal(n)
        w, states = rule.f.step(w, torch.tensor(g), states)
        V = 0.9 * V + 0.1 * np.outer(g, g)
        values, Q = np.linalg.eigh(V)
        x = x - 0.1 * (Q / (np.sqrt(values.clip(0)) + 0.05)) @ (Q.T @ g)
    np.testing.assert_allclose(w, x, rtol=1e-9)
    np.testing.assert_allclose(states[0], V, rtol=1e-12, atol=1e-14)


@pytest.fixture(scope="module")
def run():
    hyper = dict(lr=0.2, beta2=0.99, eps=0.1)
    return simulate(small_problem(), RULE, hyper, 80, warm_start=5, kick=1e-3, check=False)


def test_the_central_flow_stays_at_the_edge_and_predicts_the_run(run):
    assert not run.manifest["stopped"]
    central, summary = run["central"], run.summary().as_dict()
    ratio = central.eigenvalues[:, 0] / central.threshold
    assert central.critical[20:].min() >= 2 and np.abs(ratio[20:] - 1).max() < 0.01
    V = central.states["V"]
    assert V.shape == (36, 36) and np.array_equal(V, V.T) and np.linalg.eigvalsh(V)[0] > -1e-15
    # Measured: 0.035 against 0.26 in the loss, 0.12 against 0.84 in the weights.
    assert summary["predicted_loss_error"] < 0.3 * summary["stable_loss_error"]
    assert run.distance("midpoint", "central")[-1] < 0.3 * run.distance("midpoint", "stable")[-1]


def test_both_ripples_are_measured(run):
    assert np.isfinite(run["central"].ripple_threshold).any() and np.isfinite(run["central"].ripple_drift).any()


def test_too_many_parameters_are_refused_in_one_sentence():
    w = torch.zeros(2001, dtype=F64)
    with pytest.raises(InputRefused, match="needs n ≤ 2000, got n = 2001"):
        simulate(Problem(lambda x: (x * x).sum(), w), RULE, dict(lr=0.1), 1, check=False)


@pytest.mark.parametrize(
    ("V", "words"), [(np.tri(28), "asymmetric"), (-np.eye(28), "indefinite"), (np.eye(3), "784 finite")]
)
def test_a_state_that_is_no_second_moment_is_refused(V, words):
    problem = small_problem(width=4, n=5)
    size = problem.n
    V = V if V.shape == (3, 3) else V[:size, :size]
    with pytest.raises(InputRefused, match=words.replace("784", str(size**2))):
        simulate(problem, RULE, dict(lr=0.1), 1, state=dict(V=V), check=False)


def edge(n, seed=0, kind="indefinite"):
    random = np.random.default_rng(seed)
    A, g = random.standard_normal((n, n)), random.standard_normal(n) / 2
    return {"indefinite": (A + A.T) / 2, "low rank": np.outer(A[0], A[0]), "positive": A @ A.T / n}[kind], g


@pytest.mark.parametrize("kind", ["indefinite", "low rank", "positive"])
@pytest.mark.parametrize("n", [1, 2, 12])
def test_closed_form_without_offset_is_the_reference(n, kind):
    H, g = edge(n, kind=kind)
    found, reference = (stationary_full_matrix(H, g, 0.3, 5.0, solver=s) for s in ("auto", "cvxpy"))
    assert found.status == "optimal" and found.gap < 1e-12
    assert found.primal == pytest.approx(reference.primal, rel=1e-6)
    np.testing.assert_allclose(found.P, reference.P, atol=1e-3 * np.abs(found.P).max())  # the reference's accuracy


def test_a_singular_solution_has_rank_one_above_that_of_the_oscillation():
    H, g = edge(30, kind="low rank")
    found = stationary_full_matrix(H, g, 1.0)
    assert found.gap < 1e-12
    assert np.linalg.matrix_rank(found.P, 1e-9) == 1 + np.linalg.matrix_rank(found.Z, 1e-9) == 2


@pytest.mark.parametrize(("n", "eps"), [(1, 0.1), (10, 0.0), (10, 0.05), (40, 0.1)])
def test_the_solution_is_where_the_accumulator_rests(n, eps):
    """(ηP − ε)² = ggᵀ + λ*²PΣP with Z = λ*Σ, complementary to λ*P − H ⪰ 0."""
    H, g = edge(n, seed=3)
    eta, threshold = 0.4, 2.0
    s = stationary_full_matrix(H, g, eta, threshold, eps=eps, tol=1e-10)
    assert s.status == "optimal"
    root = eta * s.P - eps * np.eye(n)
    rest = root @ root - np.outer(g, g) - threshold * s.P @ s.Z @ s.P
    assert np.abs(rest).max() < 1e-3 * np.abs(root @ root).max()  # the root of the gap
    margin = threshold * s.P - H
    assert np.linalg.eigvalsh(margin)[0] > -1e-12 * np.abs(H).max()
    assert abs(np.vdot(s.Z, margin)) < 1e-8 * s.primal
    assert np.linalg.eigvalsh(s.P)[0] > (eps / eta) * (1 - 1e-9) - 1e-12


def test_gap_and_speed_at_moderate_size_and_tensors_come_back():
    H, g = edge(150, kind="positive")
    found = stationary_full_matrix(torch.tensor(H), torch.tensor(g), 1.0)
    assert isinstance(found.P, torch.Tensor) and found.gap < 1e-12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(eta=0.0), "eta must be a finite positive"),
        (dict(eps=-1.0), "eps must be a finite nonnegative"),
        (dict(hessian=np.tri(3)), "symmetric"),
        (dict(hessian=np.eye(2)), "must be an"),
        (dict(g=np.full(3, np.nan)), "finite"),
        (dict(solver="newton"), "solver must be"),
        (dict(solver="cvxpy", eps=0.1), "needs eps = 0"),
    ],
)
def test_bad_input_is_refused(change, words):
    with pytest.raises(InputRefused, match=words):
        stationary_full_matrix(**(dict(hessian=np.eye(3), g=np.ones(3), eta=1.0) | change))
