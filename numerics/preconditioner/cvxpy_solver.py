"""The reference: (T14) as it is written, in cvxpy, for small n."""

from __future__ import annotations

import warnings
from typing import Any

import cvxpy
import torch
from torch import Tensor

from numerics.boundary import to_numpy, to_tensor
from numerics.preconditioner.program import Certificate, Program, certify, refuse

cp: Any = cvxpy

REFERENCE_LIMIT = 60


def solve_by_cvxpy(program: Program, V: Tensor, limit: int, tol: float, warm: bool) -> Certificate:
    """Solve the program as it is written; certified like every other solution."""
    bad = program.matrix is None or len(program.c) > REFERENCE_LIMIT
    refuse(bad, f'solver "cvxpy" needs H with n ≤ {REFERENCE_LIMIT}; use solver="auto".')
    bad = bool((program.c < program.e**2).any())
    refuse(bad, 'solver "cvxpy" needs ε ≤ |g| in every coordinate, to see the convexity; use solver="auto".')
    c, H, e = (
        to_numpy(program.c),
        to_numpy(program.H(torch.eye(len(program.c), dtype=program.c.dtype, device=program.c.device))),
        program.e,
    )
    p = cp.Variable(len(c))
    objective = cp.sum(p) + (c - e**2) @ cp.inv_pos(p) if (c > e**2).any() else cp.sum(p)
    constraint = cp.diag(p) - (H + H.T) / 2 >> 0
    objective = objective - 2 * e * cp.sum(cp.log(p)) if e else objective
    problem = cp.Problem(cp.Minimize(objective), [constraint, p >= e])
    with warnings.catch_warnings():
        # cvxpy warns that the solution may be inaccurate; the certificate measures it.
        warnings.simplefilter("ignore")
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10, max_threads=1)
    values, Q = torch.linalg.eigh(to_tensor(constraint.dual_value, program.c))
    V = Q * values.clamp_min(0).sqrt()
    V = V / max(1.0, float(V.norm(dim=1).max()) * (1 + 1e-12))
    s = (1 - V.square().sum(1)).clamp_min(0).sqrt()
    return certify(program, to_tensor(p.value, program.c).clamp_min(e), s, V, tol)
