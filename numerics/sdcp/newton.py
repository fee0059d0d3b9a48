r"""Semismooth Newton on the normal map of (T11).

G(W) = 𝒜 + ℬ[W₊] − W₋ with W = W₊ − W₋ split by the sign of its eigenvalues. At a zero X = W₊ and S = W₋ solve
(T11); at *any* W they are PSD and complementary to round-off, so that ‖G‖ is the whole error. Near a solution with ℬ
definite the iteration is quadratic, and it starts well from the solution of the previous step.
"""

from typing import NamedTuple

import numpy as np

from numerics.sdcp.problem import ScaledProblem
from numerics.sdcp.svec import Array, congruence_matrix, smat, svec, svec_table

_TARGET = 1e-14
"""Relative ‖G‖ at which to stop; usually round-off stops the iteration first."""
_GOOD = 1e-11
"""Below this a step that gains less than a factor 2 is taken as the round-off floor."""
_HUGE = 1e14
"""‖X‖ in scaled units beyond which ℬ[X] is round-off: the iterates diverge."""
_LINE_SEARCH = 12


class Iterate(NamedTuple):
    """What a method hands back: an approximate solution in scaled coordinates and the iterations spent."""

    Y: Array
    iterations: int


class _Point(NamedTuple):
    w: Array
    X: Array
    eigenvalues: Array
    Q: Array
    g: Array
    norm: float
    scale: float

    @property
    def relative(self) -> float:
        return self.norm / self.scale


def _evaluate(problem: ScaledProblem, w: Array) -> _Point:
    eigenvalues, Q = np.linalg.eigh(smat(w, problem.k))
    X = (Q * np.maximum(eigenvalues, 0.0)) @ Q.T
    x = svec(X)
    image = problem.M @ x
    # W₊ − W₋ = W, hence −W₋ = W − W₊.
    g = problem.a + image + (w - x)
    scale = float(np.sqrt(problem.a @ problem.a) + np.sqrt(image @ image))
    return _Point(w, X, eigenvalues, Q, g, float(np.sqrt(g @ g)), scale)


def _derivative_weights(eigenvalues: Array) -> Array:
    # Derivative of W → W₊ in the eigenbasis of W: entry (i, j) is multiplied by (l_i⁺ + l_j⁺)/(|l_i| + |l_j|).
    k = eigenvalues.size
    table = svec_table(k)
    positive, size = np.maximum(eigenvalues, 0.0), np.abs(eigenvalues)
    numerator = positive[table.rows] + positive[table.cols]
    denominator = size[table.rows] + size[table.cols]
    flat = denominator <= 0.0
    return np.where(flat, 0.5, numerator / np.where(flat, 1.0, denominator))


def _direction(problem: ScaledProblem, point: _Point) -> Array:
    # G'(W)h = h + (M − 1)D h, D = K diag(omega) Kᵀ, in the eigenbasis. Adding rho to ℬ keeps the system regular where ℬ
    # is singular; rho vanishes with ‖G‖, so the fast local rate stays.
    omega = _derivative_weights(point.eigenvalues)
    K = congruence_matrix(point.Q)
    J = K.T @ (problem.M @ K)
    rho = 1e-15 + 1e-3 * min(1.0, point.relative)
    J *= omega
    J.ravel()[:: omega.size + 1] += 1.0 - (1.0 - rho) * omega
    return -(K @ np.linalg.solve(J, K.T @ point.g))


def _line_search(problem: ScaledProblem, point: _Point, h: Array) -> tuple[_Point, bool]:
    step = 1.0
    for _ in range(_LINE_SEARCH):
        trial = _evaluate(problem, point.w + step * h)
        if trial.norm <= (1.0 - 1e-4 * step) * point.norm:
            return trial, True
        step *= 0.5
    return trial, False


def cold_start(problem: ScaledProblem) -> Array:
    """X along 𝒜₋, of the length that is exact for one mode, and S = 𝒜₊.

    Args:
        problem: The scaled problem.

    Returns:
        W, (k, k).
    """
    A = smat(problem.a, problem.k)
    eigenvalues, Q = np.linalg.eigh(A)
    negative: Array = (Q * np.maximum(-eigenvalues, 0.0)) @ Q.T
    v = svec(negative)
    curvature = float(v @ (problem.M @ v))
    # min over t of ½t²⟨V, ℬ[V]⟩ + t⟨𝒜, V⟩ with ⟨𝒜, V⟩ = −‖V‖²; bounded in case ℬ does not see V.
    length = float(v @ v) / curvature if curvature > 1e-3 * float(v @ v) else 1.0
    W: Array = (length - 1.0) * negative - A
    return W


def warm_start(problem: ScaledProblem, Y: Array) -> Array:
    """W = X − S at a given X.

    Args:
        problem: The scaled problem.
        Y: (k, k), in scaled coordinates; need not be PSD.

    Returns:
        W, (k, k); if Y solves the problem then so does W.
    """
    return Y - problem.slack(Y)


def newton(problem: ScaledProblem, W: Array, *, max_iterations: int = 30) -> Iterate:
    """Iterate from W until ‖G‖ is at round-off, no longer falls, or the iterates diverge.

    Args:
        problem: The scaled problem.
        W: (k, k), the start, see `cold_start` and `warm_start`.
        max_iterations: Number of linear solves allowed.

    Returns:
        X = W₊ of the last point, certified by the caller.
    """
    point = _evaluate(problem, svec(W))
    for iteration in range(max_iterations):
        if point.relative <= _TARGET or np.abs(point.eigenvalues[-1]) > _HUGE:
            return Iterate(point.X, iteration)
        try:
            trial, descended = _line_search(problem, point, _direction(problem, point))
        except np.linalg.LinAlgError:
            return Iterate(point.X, iteration)
        if not descended or (point.relative < _GOOD and trial.norm > 0.5 * point.norm):
            return Iterate(min(point, trial, key=lambda p: p.norm).X, iteration + 1)
        point = trial
    return Iterate(point.X, max_iterations)
