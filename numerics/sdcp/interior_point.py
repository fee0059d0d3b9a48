r"""A primal-dual interior-point method for monotone (T11), self-adjoint or not.

Nesterov–Todd scaling with Mehrotra's predictor and corrector. Slower than Newton on the normal map but it converges
from a cold start on every monotone instance with a strictly feasible point; its last iterate then starts Newton.
"""

from typing import NamedTuple

import numpy as np

from numerics.sdcp.newton import Iterate
from numerics.sdcp.problem import ScaledProblem
from numerics.sdcp.svec import Array, congruence_matrix, smat, svec

_TARGET = 1e-9
"""Further steps lose more to round-off in S than they gain; Newton takes over here."""
_TO_BOUNDARY = 0.99
_HUGE = 1e14


class _Scaling(NamedTuple):
    """R with RᵀSR = R⁻¹XR⁻ᵀ = diag(lam), the Nesterov–Todd point."""

    R: Array
    R_inverse_T: Array
    lam: Array


def _solve(matrix: Array, rhs: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, rhs), dtype=np.float64)


class _Linear(NamedTuple):
    """dS = operator dX + residual in the scaled coordinates, where operator + 1 is to be inverted."""

    operator: Array
    residual: Array

    def direction(self, target: Array) -> tuple[Array, Array]:
        # dX + dS = target, with one step of iterative refinement: the operator spans many orders near the solution.
        k = target.shape[0]
        system = self.operator.copy()
        system.ravel()[:: system.shape[0] + 1] += 1.0
        rhs = svec(target) - self.residual
        dx = _solve(system, rhs)
        dx += _solve(system, rhs - system @ dx)
        return smat(dx, k), smat(self.operator @ dx + self.residual, k)


def _nt_scaling(L_X: Array, L_S: Array) -> _Scaling:
    U, lam, Vt = np.linalg.svd(L_S.T @ L_X)
    root = np.sqrt(lam)
    return _Scaling((L_X @ Vt.T) / root, (L_S @ U) / root, lam)


def _step_length(lam: Array, *directions: Array) -> float:
    # Largest t ≤ 1 with diag(lam) + tD ⪰ 0 for all directions D.
    root = 1.0 / np.sqrt(lam)
    lowest = min(float(np.linalg.eigvalsh(D * root[:, None] * root)[0]) for D in directions)
    return 1.0 if lowest >= -1.0 else -1.0 / lowest


def _predictor_corrector(linear: _Linear, lam: Array) -> tuple[Array, Array]:
    L, mu = np.diag(lam), float(lam @ lam) / lam.size
    dX, dS = linear.direction(-L)
    t = _step_length(lam, dX, dS)
    mu_after = max(0.0, float(np.vdot(L + t * dX, L + t * dS))) / lam.size
    centring = min(1.0, mu_after / mu) ** 3 * mu
    target = centring * np.eye(lam.size) - L @ L - 0.5 * (dX @ dS + dS @ dX)
    return linear.direction(2.0 * target / (lam[:, None] + lam[None, :]))


def _merit(problem: ScaledProblem, X: Array, S: Array, residual: Array) -> float:
    image = problem.M @ svec(X)
    sigma = float(np.linalg.norm(problem.a) + np.linalg.norm(image))
    gap = abs(float(np.vdot(X, S))) / (float(np.linalg.norm(X)) * sigma)
    return max(gap, float(np.linalg.norm(residual)) / sigma)


def interior_point(problem: ScaledProblem, *, max_iterations: int = 60) -> Iterate:
    """Follow the central path of (T11) from the identity.

    Args:
        problem: The scaled problem.
        max_iterations: Number of predictor-corrector steps allowed.

    Returns:
        The best iterate, X ≻ 0; it stops early where round-off or divergence makes further steps useless.
    """
    k = problem.k
    root = np.sqrt(max(1.0, float(np.linalg.norm(smat(problem.a, k), 2))))
    L_X, L_S = np.eye(k), root * np.eye(k)
    best, best_merit = np.eye(k), np.inf
    for iteration in range(max_iterations):
        X, S = L_X @ L_X.T, L_S @ L_S.T
        residual = problem.slack(X) - S
        merit = _merit(problem, X, S, residual)
        if merit < best_merit:
            best, best_merit = X, merit
        if merit <= _TARGET or merit > 1e2 * best_merit or np.abs(X).max() > _HUGE:
            return Iterate(best, iteration)
        try:
            L_X, L_S = _step(problem, L_X, L_S, residual)
        except np.linalg.LinAlgError:
            # A factor lost definiteness to round-off: the best iterate is as far as this method goes.
            return Iterate(best, iteration + 1)
    return Iterate(best, max_iterations)


def _step(problem: ScaledProblem, L_X: Array, L_S: Array, residual: Array) -> tuple[Array, Array]:
    R, R_inverse_T, lam = _nt_scaling(L_X, L_S)
    K = congruence_matrix(R)
    linear = _Linear(K.T @ (problem.M @ K), svec(R.T @ residual @ R))
    dX, dS = _predictor_corrector(linear, lam)
    t = _TO_BOUNDARY * _step_length(lam, dX, dS)
    L = np.diag(lam)
    return R @ np.linalg.cholesky(L + t * dX), R_inverse_T @ np.linalg.cholesky(L + t * dS)
