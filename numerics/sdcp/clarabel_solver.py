r"""(T11) as a quadratic program over PSD cones in svec coordinates, given to Clarabel directly.

Self-adjoint ℬ: (T12), min ½⟨X, ℬ[X]⟩ + ⟨𝒜, X⟩ over X ⪰ 0. Otherwise min ⟨X, 𝒜 + ℬ[X]⟩ over X ⪰ 0, 𝒜 + ℬ[X] ⪰ 0, whose
optimum is 0 iff (T11) has a solution.
"""

import clarabel
import numpy as np
from scipy import sparse

from numerics.sdcp.newton import Iterate
from numerics.sdcp.problem import ScaledProblem
from numerics.sdcp.svec import Array, smat


def _settings() -> clarabel.DefaultSettings:
    # Asking for more (1e-13) makes the solver break down and return a worse point on one instance in ten.
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    settings.tol_ktratio = 1e-10
    settings.max_iter = 100
    return settings


def solve_conic(P: Array, q: Array, rows: Array, rhs: Array, cones: list[object]) -> tuple[Array, int]:
    """Minimise ½xᵀPx + qᵀx over rhs − rows·x ∈ cones.

    Args:
        P: (n, n), symmetric PSD.
        q: (n,).
        rows: (m, n).
        rhs: (m,).
        cones: Clarabel cones of total dimension m.

    Returns:
        The last x and the iterations spent; what it is worth is for the caller to check.
    """
    solver = clarabel.DefaultSolver(sparse.csc_matrix(np.triu(P)), q, sparse.csc_matrix(rows), rhs, cones, _settings())
    solution = solver.solve()
    return np.array(solution.x, dtype=np.float64), int(solution.iterations)


def solve_clarabel(problem: ScaledProblem) -> Iterate:
    """Solve the scaled problem with Clarabel.

    Args:
        problem: The scaled problem.

    Returns:
        X as Clarabel left it; its error is about the square root of the gap, so polish it.
    """
    N = problem.a.size
    cone = clarabel.PSDTriangleConeT(problem.k)
    if problem.self_adjoint:
        x, iterations = solve_conic(problem.symmetric_part(), problem.a, -np.eye(N), np.zeros(N), [cone])
    else:
        rows, rhs = np.vstack([-np.eye(N), -problem.M]), np.concatenate([np.zeros(N), problem.a])
        x, iterations = solve_conic(2.0 * problem.symmetric_part(), problem.a, rows, rhs, [cone, cone])
    return Iterate(smat(x, problem.k), iterations)
