"""(T11)-(T12): certificates, symmetries, references and refusals of `numerics.sdcp`."""

import dataclasses
import doctest
import importlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerics.errors import InputRefused
from numerics.sdcp import SDCPSolution, residuals, solve_sdcp
from numerics.sdcp.infeasibility import find_infeasibility
from numerics.sdcp.problem import scale_problem
from numerics.sdcp.svec import congruence_matrix, operator_matrix, smat, svec
from tests import sdcp_instances as cases
from tests.benchmarks.sdcp_table import failures, survey
from tests.sdcp_instances import CLASSES, Instance, apply, congruence, instances

seeds = st.integers(0, 10**6)
sizes = st.integers(1, 8)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([77, seed])


def random_problem(seed: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(seed)
    return cases.margin(rng, k, cases.some_active(rng, k)), cases.definite_operator(rng, k)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), np.linalg.norm(b), 1e-300))


def image_distance(instance: Instance, one: SDCPSolution, other: SDCPSolution) -> float:
    """Distance of ℬ[X] relative to ‖𝒜‖ in scaled coordinates: ℬ[X] is what two solvers must agree on."""
    scaled = scale_problem(instance.A, instance.B)
    difference = scaled.M @ svec(scaled.rescale(one.X) - scaled.rescale(other.X))
    return float(np.linalg.norm(difference) / np.linalg.norm(scaled.a))


def gap_bound(instance: Instance, reference: SDCPSolution) -> float:
    """How far ℬ[X] of an interior-point X may be off: ⟨X − X*, ℬ[X − X*]⟩ ≤ ⟨X, S⟩ = r ‖X‖ σ where X is feasible."""
    scaled = scale_problem(instance.A, instance.B)
    Y = scaled.rescale(reference.X)
    size_M, size_a = np.linalg.norm(scaled.M, 2), np.linalg.norm(scaled.a)
    gap = reference.residuals.worst * np.linalg.norm(Y) * (size_a + np.linalg.norm(scaled.M @ svec(Y)))
    return float(np.sqrt(size_M * gap) / size_a)


# ---- reliability


def test_every_instance_gets_the_right_status() -> None:
    runs = survey(1000)
    assert Counter(run.instance.kind for run in runs).keys() == {c(generator(0), 2).kind for c in CLASSES}
    assert failures(runs) == []
    assert max(run.solution.residuals.worst for run in runs if run.instance.solvable) <= 1e-8
    assert sum(run.solution.status == "unsolvable" for run in runs) == 111


@pytest.mark.parametrize("solver", ["newton", "interior_point", "clarabel", "cvxpy"])
def test_every_solver_alone_never_lies(solver: str) -> None:
    runs = survey(108, seed=3, solver=solver)
    statuses = {(run.instance.solvable, run.solution.status) for run in runs}
    assert statuses <= {(True, "optimal"), (True, "inaccurate"), (False, "unsolvable")}
    # Each alone misses a few; together, in "auto", they miss none.
    assert sum(run.solution.status == "inaccurate" for run in runs) <= 8


@pytest.mark.parametrize("index", range(len(CLASSES)))
def test_instances_are_what_they_say(index: int) -> None:
    for k in (1, 2, 5):
        q = CLASSES[index](generator(index), k)
        M = cases.matrix_of(q.B)
        spectrum = np.linalg.eigvalsh(0.5 * (M + M.T))
        assert spectrum[0] >= -1e-12 * spectrum[-1]
        assert np.abs(q.A - q.A.T).max() <= 1e-14 * np.abs(q.A).max()
        if q.solution is not None:
            assert residuals(q.A, q.B, q.solution).worst <= 1e-12


# ---- the certificate


def test_certificate_by_hand() -> None:
    # D = diag(1, 1/2): scaled X = diag(1, 4c), S = diag(0, s) with s = ¼(−4 + 16c), σ = 1 + max(1, 4c).
    B = np.zeros((2, 2, 2, 2))
    B[0, 0, 0, 0], B[1, 1, 1, 1] = 1.0, 16.0
    A = np.diag([-1.0, -4.0])
    assert not any(dataclasses.astuple(residuals(A, B, np.diag([1.0, 0.25]))))
    short = residuals(A, B, np.diag([1.0, 0.2]))
    assert not short.primal
    assert short.dual == pytest.approx(0.1)  # s = −0.2, σ = 2
    assert short.gap == pytest.approx(0.8 * 0.2 / 2.0)  # scaled X_22 = 0.8
    # S = 0, so that an indefinite X is all that is wrong.
    indefinite = np.diag([1.0, -0.25])
    negative = residuals(-apply(B, indefinite), B, indefinite)
    assert (negative.dual, negative.gap) == (0.0, 0.0)
    assert negative.worst == negative.primal == pytest.approx(1.0)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda X: 0.0 * X, id="zero"),
        pytest.param(lambda X: -X, id="sign"),
        pytest.param(lambda X: X * (1.0 + 1e-5), id="longer"),
        pytest.param(lambda X: X + 1e-5 * np.linalg.norm(X) * np.eye(len(X)), id="shifted up"),
        pytest.param(lambda X: X - 1e-5 * np.linalg.norm(X) * np.eye(len(X)), id="shifted down"),
        pytest.param(lambda X: np.full_like(X, np.nan), id="nan"),
    ],
)
def test_certificate_rejects_wrong_answers(spoil) -> None:
    for instance in instances(90, seed=4):
        solution = solve_sdcp(instance.A, instance.B)
        # A violation of 1e-7 makes X that small against 𝒜: its last digits are below r by design.
        if solution.status == "optimal" and np.any(solution.X) and instance.kind != "slightly violated":
            rescaled = scale_problem(instance.A, instance.B)
            wrong = rescaled.unscale(spoil(rescaled.rescale(solution.X)))
            assert residuals(instance.A, instance.B, wrong).worst > 1e-8, instance.kind


def test_certificate_rejects_no_answer_to_a_slight_violation() -> None:
    instance = cases.slightly_violated(generator(0), 4)
    assert residuals(instance.A, instance.B, np.zeros((4, 4))).worst > 1e-8


def test_symmetrising_a_skew_operator_is_a_wrong_answer() -> None:
    rng = generator(1)
    M = cases.matrix_of(cases.definite_operator(rng, 4))
    skewed = cases.tensor_of(M + 0.1 * np.abs(M).max() * cases._random_skew(rng, len(M)), 4)
    A = cases.margin(rng, 4, 3)
    wrong = solve_sdcp(A, cases.tensor_of(M, 4))
    assert wrong.status == "optimal"
    assert residuals(A, skewed, wrong.X).worst > 1e-4
    assert solve_sdcp(A, skewed).status == "optimal"


@given(seeds, sizes, st.floats(-6, 6), st.floats(-6, 6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_certificate_does_not_see_units(seed: int, k: int, a: float, b: float) -> None:
    A, B = random_problem(seed, k)
    rng = generator(seed + 1)
    X = cases.random_symmetric(rng, k)
    before = residuals(A, B, X)
    s = 10.0 ** rng.uniform(-3, 3, k)
    A2, B2 = congruence(10**a * A, 10**b * B, s)
    after = residuals(A2, B2, X * 10 ** (a - b) / np.outer(s, s))
    assert dataclasses.astuple(after) == pytest.approx(dataclasses.astuple(before), rel=1e-9, abs=1e-14)


# ---- symmetries of the problem


@given(seeds, sizes, st.floats(-8, 8), st.floats(-8, 8))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_scaling_covariance(seed: int, k: int, a: float, b: float) -> None:
    A, B = random_problem(seed, k)
    X = solve_sdcp(A, B).X
    scaled = solve_sdcp(10**a * A, 10**b * B)
    assert scaled.status == "optimal"
    assert relative(scaled.X, 10 ** (a - b) * X) <= 1e-7


@given(seeds, sizes)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_congruence_covariance(seed: int, k: int) -> None:
    A, B = random_problem(seed, k)
    s = 10.0 ** generator(seed + 1).uniform(-4, 4, k)
    scaled = solve_sdcp(*congruence(A, B, s))
    assert scaled.status == "optimal"
    assert relative(scaled.X * np.outer(s, s), solve_sdcp(A, B).X) <= 1e-7


@given(seeds, sizes, st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_rotation_and_permutation_equivariance(seed: int, k: int, permute: bool) -> None:
    A, B = random_problem(seed, k)
    rng = generator(seed + 1)
    R = np.eye(k)[rng.permutation(k)] if permute else cases.random_orthogonal(rng, k)
    rotated_A = R @ A @ R.T
    rotated_B = np.einsum("ai,bj,ck,dl,ijkl->abcd", R, R, R, R, B, optimize=True)
    rotated = solve_sdcp(0.5 * (rotated_A + rotated_A.T), rotated_B)
    assert rotated.status == "optimal"
    assert relative(rotated.X, R @ solve_sdcp(A, B).X @ R.T) <= 1e-7


# Not so small that X is subnormal: then it has no eight digits and the status is "inaccurate".
@given(st.floats(-1e3, 1e3).filter(lambda a: not a or abs(a) > 1e-290), st.floats(1e-6, 1e6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_one_mode_closed_form(a: float, b: float) -> None:
    solution = solve_sdcp(np.array([[a]]), np.full((1, 1, 1, 1), b))
    assert solution.status == "optimal"
    assert solution.X[0, 0] == pytest.approx(max(0.0, -a / b), rel=1e-12, abs=0.0)


@given(seeds, sizes, st.integers(0, 8))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_no_violation_no_oscillation(seed: int, k: int, rank: int) -> None:
    rng = generator(seed)
    spectrum = np.where(np.arange(k) < rank, rng.random(k), 0.0)
    solution = solve_sdcp(np.diag(spectrum), cases.definite_operator(rng, k))
    assert solution.status == "optimal"
    assert not solution.X.any()


@given(seeds, sizes)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_solution_is_psd_and_complementary(seed: int, k: int) -> None:
    A, B = random_problem(seed, k)
    X = solve_sdcp(A, B).X
    S = A + apply(B, X)
    size = np.linalg.norm(X) * (np.linalg.norm(A) + np.linalg.norm(S))
    assert np.linalg.eigvalsh(X)[0] >= -1e-12 * np.linalg.norm(X)
    assert np.linalg.eigvalsh(S)[0] >= -1e-10 * (np.linalg.norm(A) + np.linalg.norm(S))
    assert np.linalg.norm(X @ S) <= 1e-9 * size


# ---- references


def test_fast_path_agrees_with_both_cvxpy_references() -> None:
    compared: Counter[str] = Counter()
    for instance in instances(108, seed=5):
        fast = solve_sdcp(instance.A, instance.B)
        if not instance.solvable or not fast.X.any():
            continue
        reference = solve_sdcp(instance.A, instance.B, solver="cvxpy")
        if reference.status == "optimal":
            compared[instance.kind] += 1
            assert image_distance(instance, fast, reference) <= gap_bound(instance, reference), instance.kind
    assert len(compared) == len(CLASSES) - 1
    assert sum(compared.values()) >= 75


def test_singular_operator_agrees_in_the_image_only() -> None:
    # ℬ sees X_11 + X_22 only, so X is any split of the trace; ℬ[X] = (1)·(trace) is unique.
    trace = np.eye(2)
    B = np.einsum("ij,kl->ijkl", trace, trace)
    A = -np.eye(2)
    for solver in ("auto", "clarabel", "cvxpy"):
        solution = solve_sdcp(A, B, solver=solver)
        assert solution.status == "optimal"
        assert np.trace(solution.X) == pytest.approx(1.0, abs=1e-7)
    assert max(residuals(A, B, np.diag(split)).worst for split in ([1.0, 0.0], [0.25, 0.75])) <= 1e-16


@pytest.mark.parametrize("solver", ["newton", "interior_point", "clarabel"])
def test_solvers_agree_on_definite_instances(solver: str) -> None:
    for seed in range(12):
        A, B = random_problem(seed, 1 + seed)
        other = solve_sdcp(A, B, solver=solver)
        if other.status == "optimal":
            assert relative(other.X, solve_sdcp(A, B).X) <= 1e-8


def test_svec_algebra_against_brute_force() -> None:
    rng = generator(3)
    for k in (1, 2, 3, 7):
        X, Y = cases.random_symmetric(rng, k), cases.random_symmetric(rng, k)
        R, B = rng.standard_normal((k, k)), rng.standard_normal((k, k, k, k))
        image = apply(B, X)
        assert np.allclose(smat(svec(X), k), X)
        assert svec(X) @ svec(Y) == pytest.approx(np.vdot(X, Y))
        assert np.allclose(congruence_matrix(R) @ svec(X), svec(R @ X @ R.T))
        assert np.allclose(operator_matrix(B) @ svec(X), svec(0.5 * (image + image.T)))


# ---- warm starts


def test_warm_start_from_the_solution_costs_nothing() -> None:
    for seed in range(12):
        A, B = random_problem(seed, 1 + seed)
        cold = solve_sdcp(A, B)
        warm = solve_sdcp(A, B, X0=cold.X)
        assert warm.iterations <= 1
        assert relative(warm.X, cold.X) <= 1e-10


def test_warm_start_from_a_neighbour_saves_iterations() -> None:
    cold_total = warm_total = 0
    for seed in range(40):
        k = 2 + seed % 8
        A, B = random_problem(seed, k)
        previous = solve_sdcp(A, B).X
        moved = A + 1e-3 * np.linalg.norm(A) * cases.random_symmetric(generator(seed + 1), k) / k
        cold, warm = solve_sdcp(moved, B), solve_sdcp(moved, B, X0=previous)
        assert warm.status == "optimal"
        cold_total, warm_total = cold_total + cold.iterations, warm_total + warm.iterations
    assert warm_total < 0.75 * cold_total


@given(seeds, sizes, st.floats(-8, 8))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_bad_start_does_no_harm(seed: int, k: int, size: float) -> None:
    A, B = random_problem(seed, k)
    X0 = 10**size * cases.random_symmetric(generator(seed + 1), k)
    solution = solve_sdcp(A, B, X0=X0)
    assert solution.status == "optimal"
    assert relative(solution.X, solve_sdcp(A, B).X) <= 1e-7


# ---- no solution


def test_unsolvable_comes_with_a_proof_that_can_be_checked() -> None:
    for index in range(24):
        instance = cases.unsolvable(generator(index), 1 + index % 12)
        solution = solve_sdcp(instance.A, instance.B)
        assert solution.status == "unsolvable"
        assert np.isnan(solution.X).all()
        proof = solution.infeasibility
        assert proof is not None
        V, adjoint = proof.V, np.einsum("ijkl,ij->kl", instance.B, proof.V)
        # In the units of the modes: V → D⁻¹VD⁻¹, ℬᵀ[V] → Dℬᵀ[V]D.
        DD = np.outer(*2 * [scale_problem(instance.A, instance.B).D])
        V_scaled, size = V / DD, np.abs(instance.B * DD[:, :, None, None] * DD).max()
        assert np.linalg.eigvalsh(V_scaled)[0] >= -1e-14 * np.trace(V_scaled)
        assert np.vdot(instance.A, V) < 0.0
        assert np.linalg.eigvalsh(DD * 0.5 * (adjoint + adjoint.T))[-1] <= 1e-12 * size * np.trace(V_scaled)


def test_no_proof_is_found_for_solvable_singular_problems() -> None:
    for index in range(24):
        instance = cases.nearly_singular(generator(index), 1 + index % 12)
        assert find_infeasibility(scale_problem(instance.A, instance.B)) is None


def test_blind_direction_decides() -> None:
    B = np.zeros((2, 2, 2, 2))
    B[0, 0, 0, 0] = 1.0
    assert solve_sdcp(np.diag([-1.0, 1.0]), B).status == "optimal"
    assert solve_sdcp(np.diag([-1.0, 0.0]), B).status == "optimal"
    assert solve_sdcp(np.diag([-1.0, -1.0]), B).status == "unsolvable"


def test_weakly_infeasible_is_not_called_optimal() -> None:
    # S_22 = 0 forces S_12 = 0 but ℬ cannot change S_12 = 1: r → 0 as X → ∞, and no V proves it.
    B = np.zeros((2, 2, 2, 2))
    B[0, 0, 0, 0] = 1.0
    for solver in ("auto", "newton", "interior_point", "clarabel", "cvxpy"):
        solution = solve_sdcp(np.array([[-1.0, 1.0], [1.0, 0.0]]), B, solver=solver)
        assert solution.status == "inaccurate"
        assert solution.infeasibility is None


# ---- never raises, and refuses only malformed input


@pytest.mark.parametrize("size_A", [1e-310, 1e-250, 1e250, 1e307])
@pytest.mark.parametrize("size_B", [1e-310, 1e-250, 1e250, 1e307])
def test_extreme_units_never_raise(size_A: float, size_B: float) -> None:
    A, B = random_problem(0, 3)
    solution = solve_sdcp(size_A * A, size_B * B)
    # Where A/B is no float64 number, neither is X.
    representable = abs(np.log10(size_A) - np.log10(size_B)) < 290
    assert (solution.status == "optimal") == representable


@pytest.mark.parametrize("solver", ["auto", "newton", "interior_point", "clarabel", "cvxpy"])
def test_operators_that_are_not_monotone_never_raise(solver: str) -> None:
    rng = generator(0)
    for k in (1, 2, 5):
        A, B = -np.eye(k), rng.standard_normal((k, k, k, k))
        assert solve_sdcp(A, B, solver=solver).status in {"optimal", "inaccurate", "unsolvable"}
    assert solve_sdcp(-np.eye(1), -np.ones((1, 1, 1, 1)), solver=solver).status == "unsolvable"


@pytest.mark.parametrize("solver", ["auto", "cvxpy"])
def test_empty_and_zero_problems(solver: str) -> None:
    empty = solve_sdcp(np.zeros((0, 0)), np.zeros((0, 0, 0, 0)), solver=solver, X0=np.zeros((0, 0)))
    assert (empty.status, empty.X.shape, empty.residuals.worst) == ("optimal", (0, 0), 0.0)
    zero = solve_sdcp(np.zeros((3, 3)), np.zeros((3, 3, 3, 3)), solver=solver)
    assert zero.status == "optimal"
    assert not zero.X.any()


ONES = np.ones((2, 2, 2, 2))


@pytest.mark.parametrize(
    ("A", "B", "options", "words"),
    [
        (np.eye(2)[0], ONES, {}, r"A must have shape \(k, k\), got \(2,\)"),
        (np.eye(3), ONES, {}, r"B must have shape \(3, 3, 3, 3\).*got \(2, 2, 2, 2\)"),
        (np.diag([np.nan, 1.0]), ONES, {}, "A must be finite, got 1"),
        (np.eye(2), np.inf * ONES, {}, "B must be finite, got 16"),
        (np.array([[1.0, 1.0], [0.0, 1.0]]), ONES, {}, "A must be symmetric"),
        (1j * np.eye(2), ONES, {}, "A must be an array of real numbers, got dtype complex128"),
        (np.eye(2), ONES, {"solver": "magic"}, "solver must be one of .*'auto'.*got 'magic'"),
        (np.eye(2), ONES, {"X0": np.eye(3)}, r"X0 must have shape \(2, 2\).*got \(3, 3\)"),
        (np.eye(2), ONES, {"X0": np.full((2, 2), np.nan)}, "X0 must be finite, got 4"),
    ],
)
def test_malformed_input_is_refused_in_one_sentence(A, B, options, words) -> None:
    with pytest.raises(InputRefused, match=words) as refusal:
        solve_sdcp(A, B, **options)
    assert "\n" not in str(refusal.value)


def test_asymmetry_is_reported() -> None:
    A, B = random_problem(0, 3)
    assert solve_sdcp(A, B).asymmetry <= 1e-15
    lopsided = B.copy()
    lopsided[0, 1] += 0.01 * np.abs(B).max() * np.eye(3)
    assert solve_sdcp(A, lopsided).asymmetry == pytest.approx(0.005, rel=0.1)
    # k ↔ l does not matter, X being symmetric.
    skewed = B.copy()
    skewed[:, :, 0, 1] += 0.1
    skewed[:, :, 1, 0] -= 0.1
    assert relative(solve_sdcp(A, skewed).X, solve_sdcp(A, B).X) <= 1e-9


def test_float32_and_inputs_left_alone() -> None:
    A, B = random_problem(0, 3)
    copies = A.copy(), B.copy()
    single = solve_sdcp(A.astype(np.float32), B.astype(np.float32))
    assert single.X.dtype == np.float64
    assert relative(single.X, solve_sdcp(A, B).X) <= 1e-4
    assert np.array_equal(A, copies[0])
    assert np.array_equal(B, copies[1])


def test_docstring_example() -> None:
    assert doctest.testmod(importlib.import_module("numerics.sdcp.solve")) == (0, 3)
