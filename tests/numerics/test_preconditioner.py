"""(T14): stationary_preconditioner against cvxpy, closed forms, the KKT system, and its own gap; what it refuses."""

import re
import time
import warnings

import numpy as np
import pytest
import torch

from numerics.errors import InputRefused
from numerics.preconditioner import stationary_preconditioner
from tests.benchmarks.fixed_point_table import KINDS, instance, structured


def top(H, p):
    """Largest eigenvalue of P⁻¹H, by a dense solver."""
    root = np.sqrt(p)
    return np.linalg.eigvalsh(H / np.outer(root, root))[-1]


def objective(p, g, eta, eps=0.0):
    """∑ η²p − 2ηε ln(ηp/ε) + (g² − ε²)/p, written as in THEORY section 7."""
    barrier = 2 * eta * eps * np.log(eta * p / eps) if eps else 0.0
    return np.sum(eta**2 * p - barrier + (g**2 - eps**2) / p)


def stationarity(solution, g, eta, eps=0.0):
    """(T13) with Z = λ*Σ: the largest |(ηp − ε)² − g² − λ*p²Z_ii| relative to η²p², given λ* Z = η²VVᵀ."""
    p = solution.p
    return lambda threshold: np.max(
        np.abs((eta * p - eps) ** 2 - g**2 - threshold * p**2 * np.diag(solution.Z)) / (eta * p) ** 2
    )


@pytest.mark.parametrize("threshold", [2.0, 38.0])
@pytest.mark.parametrize("eps", [0.0, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_it_solves_the_program(kind, eps, threshold):
    H, g = instance(kind, 30, seed=1)
    H, g = H * threshold / 2, np.sign(g) * np.maximum(np.abs(g), 1.01 * eps)
    eta = 0.7
    ours = stationary_preconditioner(H, g, eta, threshold, eps=eps)
    reference = stationary_preconditioner(H, g, eta, threshold, eps=eps, solver="cvxpy")
    assert ours.status == "optimal"
    assert ours.gap <= 1e-8
    assert reference.gap <= 1e-7  # what Clarabel reaches
    size = np.sum(eta**2 * ours.p + g**2 / ours.p)
    np.testing.assert_allclose(ours.primal, reference.primal, rtol=0, atol=2e-7 * size)
    np.testing.assert_allclose(ours.primal, objective(ours.p, g, eta, eps), rtol=0, atol=1e-12 * size)
    # The objective is quadratic at its minimum, so p agrees to the root of the gap.
    np.testing.assert_allclose(ours.p, reference.p, rtol=1e-3)
    np.testing.assert_allclose(ours.Z, reference.Z, rtol=0, atol=1e-3 * np.abs(ours.Z).max())


@pytest.mark.parametrize("threshold", [2.0, 38.0])
@pytest.mark.parametrize("eps", [0.0, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_the_kkt_system_holds(kind, eps, threshold):
    H, g = instance(kind, 60, seed=2)
    H, eta = H * threshold / 2, 0.7
    solution = stationary_preconditioner(H, g, eta, threshold, eps=eps, tol=1e-11)
    assert top(H, solution.p) <= threshold * (1 + 1e-11)
    assert top(H, solution.p) >= threshold * (1 - 1e-9)
    assert stationarity(solution, g, eta, eps)(threshold) < 1e-6
    margin = threshold * np.diag(solution.p) - H
    assert np.linalg.norm(margin @ solution.Z) < 1e-5 * np.linalg.norm(H @ solution.Z)


def test_with_a_wrong_sign_it_is_not_stationary():
    H, g = instance("indefinite", 60, seed=2)
    solution = stationary_preconditioner(H, g, 0.7, tol=1e-11)
    flipped = stationary_preconditioner(-H, g, 0.7, tol=1e-11)
    assert np.max(np.abs(flipped.p - solution.p) / solution.p) > 0.1
    assert stationarity(flipped, 2 * g, 0.7)(2.0) > 0.01


def test_no_gap_hides_a_better_point():
    """The dual never exceeds the objective of any feasible p, wherever the solver stopped."""
    H, g = instance("network", 40, seed=3)
    rng = np.random.default_rng(0)
    duals = [
        stationary_preconditioner(H, g, 0.5, rank=r, solver=s).dual for r in (1, 2, 6) for s in ("auto", "iteration")
    ]
    for _ in range(50):
        p = np.exp(rng.standard_normal(40))
        p *= max(top(H, p) / 2, 1e-3) * rng.uniform(1, 2)
        assert objective(p, g, 0.5) >= max(duals)


def test_diagonal_hessian_has_a_closed_form():
    H, g, eta = np.diag([5.0, 1.0, -3.0, 0.2]), np.array([1.0, 2.0, 0.5, 0.0]), 0.5
    expected = np.maximum(np.diag(H) / 2, np.abs(g) / eta)
    np.testing.assert_allclose(stationary_preconditioner(H, g, eta, tol=1e-12).p, expected, rtol=1e-10)


@pytest.mark.parametrize("coupling", [0.5, 1.0, 2.0])
def test_coordinates_whose_p_vanishes_though_their_row_does_not(coupling):
    """min p₁ + p₂ over p ≥ 0, P ⪰ [[−1, b], [b, 1]]: p₁ = max(0, b − 1), p₂ = 1 + b²/(1 + p₁)."""
    H = 2 * np.array([[-1.0, coupling], [coupling, 1.0]])
    solution = stationary_preconditioner(H, np.zeros(2), 1.0)
    first = max(0.0, coupling - 1)
    np.testing.assert_allclose(solution.p, [first, 1 + coupling**2 / (1 + first)], atol=1e-6)
    assert solution.status == "optimal"


def test_coordinates_without_gradient_or_hessian_have_none():
    H, g = instance("indefinite", 30, seed=4)
    dead = np.array([0, 7, 29])
    H[dead], H[:, dead], g[dead] = 0, 0, 0
    solution = stationary_preconditioner(H, g, 0.3)
    assert (solution.p[dead] == 0).all()
    assert (solution.Z[dead] == 0).all()
    alive = np.delete(np.arange(30), dead)
    rest = stationary_preconditioner(H[np.ix_(alive, alive)], g[alive], 0.3)
    np.testing.assert_allclose(solution.p[alive], rest.p, rtol=1e-6)
    nothing = stationary_preconditioner(np.zeros((3, 3)), np.zeros(3), 1.0)
    assert nothing.status == "optimal"
    assert (nothing.p == 0).all()


def test_far_below_the_edge_it_is_the_gradient_alone():
    H, g = instance("definite", 20, seed=5)
    for eps in (0.0, 0.1):
        solution = stationary_preconditioner(1e-3 * H, g, 0.5, eps=eps)
        np.testing.assert_allclose(solution.p, (np.abs(g) + eps) / 0.5, rtol=1e-8)
        assert np.abs(solution.Z).max() < 1e-8


def test_a_strongly_negative_mode():
    """λ_min(P⁻¹H) = −1000: the shift τ = 2 of the iteration alone would be too small."""
    H = np.array([[-1000.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 5.0]])
    for solver in ("auto", "iteration"):
        assert stationary_preconditioner(H, np.array([1.0, 1.0, 0.1]), 1.0, solver=solver).gap <= 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_200_parameters_in_a_second(kind):
    H, g = instance(kind, 200, seed=0)
    stationary_preconditioner(H, g, 1.0)
    start = time.perf_counter()
    solution = stationary_preconditioner(H, g, 1.0)
    assert time.perf_counter() - start < 1
    assert solution.gap <= 1e-8


def test_many_parameters():
    product, g = structured(20_000, 10, seed=0)
    solution = stationary_preconditioner(product, g, 1.0, tol=1e-4)
    assert solution.status == "optimal"
    assert solution.gap <= 1e-4
    assert solution.factor.shape == (20_000, solution.factor.shape[1])
    ceiling = torch.as_tensor(solution.p)[:, None] * 2
    x = torch.randn(20_000, 50, dtype=torch.float64)
    assert ((x * product(x)).sum(0) <= (x * ceiling * x).sum(0)).all()


def test_too_few_columns_show_in_the_gap():
    H, g = instance("network", 60, seed=0)
    full = stationary_preconditioner(H, g, 1.0)
    active = np.linalg.matrix_rank(full.factor, tol=1e-4 * np.linalg.norm(full.factor, 2))
    assert active >= 2
    for rank in range(1, active):
        short = stationary_preconditioner(H, g, 1.0, rank=rank)
        assert short.status == "inaccurate"
        assert short.gap > 1e-3
        assert top(H, short.p) <= 2 * (1 + 1e-10)
        assert short.primal >= full.dual
        assert short.dual <= full.primal
    assert stationary_preconditioner(H, g, 1.0, rank=active).status == "optimal"


def test_columns_are_added_to_a_start_that_has_too_few():
    H, g = instance("indefinite", 120, seed=0)
    short = stationary_preconditioner(H, g, 1.0, rank=1)
    grown = stationary_preconditioner(H, g, 1.0, start=short)
    assert (short.status, grown.status) == ("inaccurate", "optimal")
    assert grown.factor.shape[1] > 1
    np.testing.assert_allclose(grown.p, stationary_preconditioner(H, g, 1.0).p, rtol=1e-3)


@pytest.mark.parametrize("eps", [0.05, 1.0])
def test_the_dual_is_no_better_than_the_primal_with_an_offset(eps):
    for kind in KINDS:
        H, g = instance(kind, 30, seed=1)
        solution = stationary_preconditioner(H, g, 0.7, eps=eps)
        size = np.sum(0.7**2 * solution.p + g**2 / solution.p)
        assert -1e-12 * size <= solution.primal - solution.dual <= 1e-8 * size


def test_many_critical_coordinates():
    H, g = np.diag(np.arange(60.0, 0.0, -1.0)), np.full(60, 1e-3)
    solution = stationary_preconditioner(H, g, 1.0)
    assert solution.status == "optimal"
    np.testing.assert_allclose(solution.p, np.arange(60.0, 0.0, -1.0) / 2, rtol=1e-6)


def test_a_start_saves_products():
    product, g = structured(3000, 10, seed=0)
    cold = stationary_preconditioner(product, g, 1.0)
    warm = stationary_preconditioner(product, 1.01 * g, 1.0, start=cold)
    again = stationary_preconditioner(product, 1.01 * g, 1.0)
    assert warm.status == "optimal"
    assert warm.products < again.products
    np.testing.assert_allclose(warm.p, again.p, rtol=1e-3)


@pytest.mark.parametrize("n", [20, 300])
def test_matrix_and_callable_agree(n):
    H, g = instance("indefinite", n, seed=6)
    T = torch.tensor(H)
    by_matrix = stationary_preconditioner(H, g, 1.0, tol=1e-10)
    by_tensor = stationary_preconditioner(T, torch.tensor(g), 1.0, tol=1e-10)
    by_product = stationary_preconditioner(lambda V: H @ V, g, 1.0, tol=1e-10)
    by_torch = stationary_preconditioner(lambda V: T @ V, torch.tensor(g), 1.0, tol=1e-10)
    assert isinstance(by_product.p, np.ndarray)
    assert isinstance(by_torch.p, torch.Tensor)
    assert isinstance(by_torch.Z, torch.Tensor)
    for other in (by_tensor, by_product, by_torch):
        assert other.gap <= 1e-10
        np.testing.assert_allclose(np.asarray(other.p), by_matrix.p, rtol=1e-5)


def test_single_precision_and_the_default_device():
    H, g = instance("network", 40, seed=7)
    with torch.device("meta"):
        solution = stationary_preconditioner(torch.tensor(H, dtype=torch.float32, device="cpu"), torch.tensor(g, dtype=torch.float32, device="cpu"), 1.0)  # fmt: skip
        product, slope = structured(600, 5, seed=0)
        large = stationary_preconditioner(product, slope, 1.0)
    assert solution.p.dtype == torch.float32
    assert solution.status == large.status == "optimal"
    np.testing.assert_allclose(solution.p, stationary_preconditioner(H, g, 1.0).p, rtol=1e-2)


def test_the_iteration_alone_agrees_and_is_slower():
    H, g = instance("network", 60, seed=8)
    fast, slow = (stationary_preconditioner(H, g, 1.0, solver=s) for s in ("auto", "iteration"))
    np.testing.assert_allclose(slow.p, fast.p, rtol=1e-3)
    assert slow.products > fast.products


def test_it_is_where_the_accumulator_settles():
    """ν̇ = c(g² + λ*²P² diag Σ − ν) with Σ = Z/λ* vanishes at P = (√ν + ε)/η."""
    H, g = instance("network", 50, seed=9)
    eta, eps, threshold = 0.3, 0.02, 2.0
    solution = stationary_preconditioner(H, g, eta, threshold, eps=eps, tol=1e-11)
    nu = (eta * solution.p - eps) ** 2
    Sigma = solution.Z / threshold
    rate = g**2 + threshold**2 * solution.p**2 * np.diag(Sigma) - nu
    assert np.max(np.abs(rate) / nu) < 1e-5


H3, G3 = np.eye(3), np.ones(3)
SKEW = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
BAD = {
    "symmetric": (SKEW, G3, 1.0, {}),
    "must be finite, got 1": (np.diag([1.0, np.nan, 1.0]), G3, 1.0, {}),
    "g must be finite": (H3, np.array([1.0, np.inf, 0.0]), 1.0, {}),
    "to match g": (np.eye(4), G3, 1.0, {}),
    "g must be a real vector": (H3, np.ones((3, 1)), 1.0, {}),
    "eta must be": (H3, G3, 0.0, {}),
    "eta must be a finite positive number, got nan": (H3, G3, np.nan, {}),
    "threshold must be": (H3, G3, 1.0, dict(threshold=-2.0)),
    "eps must be": (H3, G3, 1.0, dict(eps=-1e-8)),
    "rank must be": (H3, G3, 1.0, dict(rank=0)),
    "solver must be": (H3, G3, 1.0, dict(solver="newton-raphson")),
    "tol must be": (H3, G3, 1.0, dict(tol=0.0)),
    "product must map": (lambda V: V[:, 0], G3, 1.0, {}),
    "ε ≤ |g|": (H3, G3, 1.0, dict(eps=2.0, solver="cvxpy")),
    "n ≤ 60": (np.eye(61), np.ones(61), 1.0, dict(solver="cvxpy")),
    "with 3 coordinates": (H3, G3, 1.0, dict(start=stationary_preconditioner(np.diag([9.0, 9.0]), np.ones(2), 1.0))),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_refused_in_one_sentence(words):
    hessian, g, eta, rest = BAD[words]
    with pytest.raises(InputRefused, match=re.escape(words)) as refusal:
        stationary_preconditioner(hessian, g, eta, **rest)
    assert "\n" not in str(refusal.value)


def test_a_large_product_that_is_not_symmetric_is_refused():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((300, 300))
    with pytest.raises(InputRefused, match="symmetric"):
        stationary_preconditioner(lambda V: A @ V, np.ones(300), 1.0)


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            H, g = instance(kind, 30, seed=0)
            stationary_preconditioner(H, 0 * g, 1.0)
            stationary_preconditioner(H, g, 1.0, eps=1e-8)
