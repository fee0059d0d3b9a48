r"""`solve_sdcp`: choose a method, certify what it returns, prove insolubility where there is no solution."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from numerics.errors import InputRefused
from numerics.sdcp.certificate import OPTIMAL_TOLERANCE, Residuals, residuals
from numerics.sdcp.clarabel_solver import solve_clarabel
from numerics.sdcp.cvxpy_solver import solve_cvxpy
from numerics.sdcp.infeasibility import Infeasibility, find_infeasibility
from numerics.sdcp.interior_point import interior_point
from numerics.sdcp.newton import Iterate, cold_start, newton, warm_start
from numerics.sdcp.problem import ScaledProblem, scale_problem
from numerics.sdcp.solution import SDCPSolution, Status
from numerics.sdcp.svec import Array, smat, svec
from numerics.sdcp.validation import check_problem, check_start

_ACCEPT = 1e-11
"""The fast path goes on to the next method until r is this small; the best r ≤ 1e-8 is still optimal."""

_DIVERGED = 1e8
"""Largest ‖ℬ‖‖X‖/σ believed. Beyond it round-off in ℬ[X] alone exceeds r ≤ 1e-8, and X is usually the end of a sequence
without limit, along which r → 0 though (T11) has no solution."""

Method = Callable[[ScaledProblem, Array | None], Iterate]


class _Candidate(NamedTuple):
    """The best X so far; `spent` counts the iterations of every method tried."""

    X: Array
    residuals: Residuals
    solver: str
    spent: int

    @property
    def optimal(self) -> bool:
        return self.residuals.worst <= OPTIMAL_TOLERANCE


def _newton(problem: ScaledProblem, start: Array | None) -> Iterate:
    return newton(problem, cold_start(problem) if start is None else warm_start(problem, start))


def _polished(problem: ScaledProblem, inner: Iterate) -> Iterate:
    # X of an interior-point method is off by about the square root of the gap; Newton finishes it.
    if not np.isfinite(inner.Y).all():
        return inner
    outer = newton(problem, warm_start(problem, inner.Y))
    return Iterate(outer.Y, inner.iterations + outer.iterations)


def _interior_point(problem: ScaledProblem, start: Array | None) -> Iterate:
    return _polished(problem, interior_point(problem))


def _clarabel(problem: ScaledProblem, start: Array | None) -> Iterate:
    return _polished(problem, solve_clarabel(problem))


def _cvxpy(problem: ScaledProblem, start: Array | None) -> Iterate:
    # No polish: the reference shares no code with what it is compared with.
    return solve_cvxpy(problem)


METHODS: dict[str, Method] = {
    "newton": _newton,
    "interior_point": _interior_point,
    "clarabel": _clarabel,
    "cvxpy": _cvxpy,
}


def _feasible_at_zero(problem: ScaledProblem) -> bool:
    # 𝒜 ⪰ 0 to round-off: X = 0 solves (T11).
    if problem.k == 0:
        return True
    eigenvalues = np.linalg.eigvalsh(smat(problem.a, problem.k))
    size = max(abs(float(eigenvalues[0])), float(eigenvalues[-1]))
    return float(eigenvalues[0]) >= -4.0 * problem.k * float(np.finfo(np.float64).eps) * size


def solve_sdcp(A: Array, B: Array, *, solver: str = "auto", X0: Array | None = None) -> SDCPSolution:
    r"""Solve 0 ⪯ X ⟂ 𝒜 + ℬ[X] ⪰ 0 (T11) for the oscillation covariance X.

    X is in the basis U with UᵀPU = I, so Σ = U X Uᵀ. ℬ need not be self-adjoint; ℬ[X] is unique if ℬ is monotone and
    self-adjoint, X if ℬ is definite. The call returns a status and never raises on a hard instance.

    Args:
        A: (k, k), symmetric; k = 0 is allowed.
        B: (k, k, k, k), ℬ[X]_ij = ∑_kl B_ijkl X_kl. Only its action on symmetric X and its symmetric output count
            (`operator_matrix`); the part dropped is reported as `asymmetry`.
        solver: "auto" (Newton, then an interior-point method, then Clarabel), or one of "newton", "interior_point",
            "clarabel" and "cvxpy" (the unpolished reference, (T12)) alone.
        X0: (k, k), a start such as the previous step's X. Used by "auto" and "newton".

    Returns:
        X, its certificate, status, the method that found it and the iterations spent.

    Raises:
        InputRefused: on malformed input: shape, dtype, non-finite entries, a non-symmetric A, an unknown solver.

    Example:
        >>> import numpy as np
        >>> solution = solve_sdcp(np.array([[-1.0]]), np.full((1, 1, 1, 1), 2.0))
        >>> solution.status, solution.X.tolist()
        ('optimal', [[0.5]])
    """
    if solver != "auto" and solver not in METHODS:
        raise InputRefused(f"solver must be one of {['auto', *METHODS]}, got {solver!r}; choose one of these.")
    A, B, asymmetry = check_problem(A, B)
    start = None if X0 is None else check_start(X0, A.shape[0])
    # Units so far apart that X itself overflows give an infinite residual, which is reported and not warned about.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        problem = scale_problem(A, B)
        scaled_start = None if start is None else problem.rescale(start)
        candidate, proof = _run(A, B, problem, solver, scaled_start)
    return _solution(candidate, proof, asymmetry)


def _run(
    A: Array, B: Array, problem: ScaledProblem, solver: str, start: Array | None
) -> tuple[_Candidate, Infeasibility | None]:
    zero = np.zeros_like(A)
    candidate = _Candidate(zero, residuals(A, B, zero), "zero", 0)
    if _feasible_at_zero(problem):
        return candidate, None
    fast: list[tuple[str, Array | None]] = [("newton", None), ("interior_point", None)]
    attempts = ([("newton", start)] if start is not None else []) + fast if solver == "auto" else [(solver, start)]
    candidate = _best_of(A, B, problem, attempts, candidate._replace(solver=attempts[0][0]))
    proof = None if candidate.optimal else _proof(problem)
    if solver == "auto" and not candidate.optimal and proof is None:
        candidate = _best_of(A, B, problem, [("clarabel", None)], candidate)
    return candidate, proof


def _proof(problem: ScaledProblem) -> Infeasibility | None:
    try:
        return find_infeasibility(problem)
    except np.linalg.LinAlgError:
        # An eigensolver that gives up proves nothing.
        return None


def _best_of(
    A: Array, B: Array, problem: ScaledProblem, attempts: Sequence[tuple[str, Array | None]], best: _Candidate
) -> _Candidate:
    # Methods in turn until one is certified; the best of them otherwise.
    for name, start in attempts:
        try:
            result = METHODS[name](problem, start)
        except np.linalg.LinAlgError:
            continue
        best = best._replace(spent=best.spent + result.iterations)
        if _diverged(problem, result.Y):
            continue
        X = problem.unscale(result.Y)
        found = residuals(A, B, X)
        if found.worst < best.residuals.worst:
            best = _Candidate(X, found, name, best.spent)
        if best.residuals.worst <= _ACCEPT:
            break
    return best


def _diverged(problem: ScaledProblem, Y: Array) -> bool:
    size = float(np.abs(Y).max())
    if not size > 1.0:
        return not np.isfinite(size)
    sigma = float(np.linalg.norm(problem.a) + np.linalg.norm(problem.M @ svec(Y)))
    return not size <= _DIVERGED * sigma


def _solution(candidate: _Candidate, proof: Infeasibility | None, asymmetry: float) -> SDCPSolution:
    status: Status = "optimal" if candidate.optimal else "inaccurate" if proof is None else "unsolvable"
    X, certificate, name, spent = candidate
    if proof is not None:
        X, certificate = np.full_like(X, np.nan), Residuals(np.inf, np.inf, np.inf)
    return SDCPSolution(X, certificate, status, name, spent, proof, asymmetry)
