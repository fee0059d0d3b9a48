r"""(T11) written as the textbook has it and solved through cvxpy: the slow and obvious reference."""

import warnings
from typing import Any

import cvxpy
import numpy as np

from numerics.sdcp.newton import Iterate
from numerics.sdcp.problem import ScaledProblem
from numerics.sdcp.svec import Array, smat, svec_table

cp: Any = cvxpy
"""cvxpy re-exports its atoms in a way type checkers do not see."""

_OPTIONS = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10, "max_iter": 100, "max_threads": 1}
"""Tighter ones fail more often than they help."""


def _full_matrix(problem: ScaledProblem, M: Array) -> Array:
    # The k² x k² matrix of the map on vec(X), X symmetric: svec(X) = E vec(X) with EᵀE the projection on Sym(k).
    table, k = svec_table(problem.k), problem.k
    E = np.zeros((problem.a.size, k * k))
    index = np.arange(problem.a.size)
    E[index, table.lower] += 0.5 * table.weights
    E[index, table.cols * k + table.rows] += 0.5 * table.weights
    return E.T @ M @ E


def _program(problem: ScaledProblem) -> tuple[Any, Any]:
    k = problem.k
    A = smat(problem.a, k)
    X = cp.Variable((k, k), symmetric=True)
    x = cp.vec(X, order="C")
    # ⟨X, ℬ[X]⟩ sees only the symmetric part of ℬ; psd_wrap because that is monotone by assumption, not by inspection.
    energy = cp.quad_form(x, cp.psd_wrap(_full_matrix(problem, problem.symmetric_part())))
    alignment = cp.sum(cp.multiply(A, X))
    if problem.self_adjoint:
        return cp.Problem(cp.Minimize(0.5 * energy + alignment), [X >> 0]), X
    S = cp.reshape(_full_matrix(problem, problem.M) @ x, (k, k), order="C") + A
    return cp.Problem(cp.Minimize(energy + alignment), [X >> 0, 0.5 * (S + S.T) >> 0]), X


def solve_cvxpy(problem: ScaledProblem) -> Iterate:
    """Solve the scaled problem with cvxpy and Clarabel, without polish.

    Self-adjoint ℬ: (T12). Otherwise min ⟨X, 𝒜 + ℬ[X]⟩ over X ⪰ 0, 𝒜 + ℬ[X] ⪰ 0, optimum 0.

    Args:
        problem: The scaled problem.

    Returns:
        X as the solver left it; 0 if it left none (unbounded, infeasible or failed).
    """
    program, X = _program(problem)
    try:
        with warnings.catch_warnings():
            # cvxpy warns that the solution may be inaccurate; the certificate measures it.
            warnings.simplefilter("ignore")
            program.solve(solver=cp.CLARABEL, **_OPTIONS)
    except cp.error.SolverError:
        return Iterate(np.zeros((problem.k, problem.k)), 0)
    iterations = int(program.solver_stats.num_iters or 0) if program.solver_stats is not None else 0
    value = np.zeros((problem.k, problem.k)) if X.value is None else np.asarray(X.value, dtype=np.float64)
    return Iterate(value, iterations)
