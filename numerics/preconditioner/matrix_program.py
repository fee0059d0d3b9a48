r"""The matrix at which a full-matrix preconditioner P = (V^½ + εI)/η settles (THEORY section 7), with a rigorous duality gap.

With c = g/η, e = ε/η and K = H/λ*, the program divided by η² and its Lagrangian dual over 0 ⪯ Z ⪯ I are

    min_P  tr φ(P) + cᵀP⁻¹c  subject to  K ⪯ P,  P ⪰ e,       φ(p) = p − 2e ln(p/e) − e²/p,
    max_Z  ⟨Z, K⟩ + min_P [ tr φ(P) + cᵀP⁻¹c − ⟨Z, P⟩ ].

For e = 0 the inner minimum is 2√(cᵀ(I − Z)c), and with 2√x = min_μ (μx + 1/μ) the dual is a minimum over one number μ > 0,

    μ‖c‖² + 1/μ + tr(K − μccᵀ)₊,      attained with  P̄ = μccᵀ + (K − μccᵀ)₊,

since this P̄ is feasible and cᵀP̄⁻¹c ≤ 1/μ. For e > 0 the inner minimum is at P = M^-½(e + (e²Z + M^½ccᵀM^½)^½)M^-½, M = I − Z.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import cvxpy
import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.optimize import brentq

cp: Any = cvxpy
Array = npt.NDArray[np.float64]
# Iterations for ε > 0, and between two certificates.
MOST, BETWEEN = 4000, 20
# For ε > 0 the certificate keeps Z ⪯ 1 − this, so that I − Z has an inverse.
NEAR_ONE = 1e-10


def without_offset(K: Array, c: Array) -> tuple[Array, Array]:
    """Minimise over μ: the derivative ‖c‖² − 1/μ² − cᵀΠc rises, with Π the projector on the positive part of K − μccᵀ."""
    norm2 = float(c @ c)
    if norm2 == 0:
        return _positive(K)

    def slope(log_mu: float) -> float:
        Z = _positive(K - math.exp(log_mu) * np.outer(c, c))[1]
        return norm2 - math.exp(-2 * log_mu) - float(c @ Z @ c)

    low = high = -math.log(norm2) / 2  # μ ≥ 1/‖c‖
    while slope(high) <= 0:
        high += 1.0
    root = brentq(slope, low - 1e-3, high, xtol=1e-15, rtol=1e-15) if high > low else low
    near = [root - 1e-13, root + 1e-13]  # Π may jump at the root: Z lies between its values on both sides
    (_, Z1), (_, Z2) = (_positive(K - math.exp(x) * np.outer(c, c)) for x in near)
    below, above = float(c @ Z1 @ c), float(c @ Z2 @ c)
    wanted = norm2 - math.exp(-2 * root)
    share = min(max((wanted - below) / (above - below), 0.0), 1.0) if above != below else 0.5
    rank_one = math.exp(root) * np.outer(c, c)
    P = rank_one + _positive(K - rank_one)[0]
    range_P = _positive(P - len(c) * np.finfo(float).eps * np.linalg.norm(P, 2) * np.eye(len(c)))[1]
    Z = range_P @ ((1 - share) * Z1 + share * Z2) @ range_P  # where P is 0 the projectors see round-off
    return P, Z


def with_offset(K: Array, c: Array, e: float, tol: float) -> tuple[Array, Array]:
    """Iterate V ← (P⁻¹K)₊V and (P − e)² = ccᵀ + PVVᵀP: at rest KV = PV, and Z = VVᵀ is the multiplier."""
    n = len(c)
    V = np.eye(n) * math.sqrt(0.5)
    P = e * np.eye(n) + _root(np.outer(c, c) + K @ K / 2)
    for k in range(MOST):
        values, U = scipy.linalg.eigh(K, P)
        W = P @ U @ (values.clip(min=0)[:, None] * (U.T @ (P @ V)))
        P = e * np.eye(n) + _root(np.outer(c, c) + W @ W.T)
        V = scipy.linalg.solve(P, W, assume_a="pos")
        if k % BETWEEN == BETWEEN - 1 and certify(K, c, e, P, V @ V.T)[-1] <= tol:
            break
    return P, V @ V.T


def by_cvxpy(K: Array, c: Array) -> tuple[Array, Array]:
    """The program for ε = 0 as it is written."""
    n = len(c)
    P = cp.Variable((n, n), symmetric=True)
    constraint = P - K >> 0
    size = cp.trace(P) + (cp.matrix_frac(c, P) if c.any() else 0)
    problem = cp.Problem(cp.Minimize(size), [constraint, P >> 0])
    with warnings.catch_warnings():
        # cvxpy warns that the solution may be inaccurate; the certificate measures it.
        warnings.simplefilter("ignore")
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10, max_threads=1)
    Z = constraint.dual_value
    return np.asarray((P.value + P.value.T) / 2), np.asarray((Z + Z.T) / 2)


def certify(K: Array, c: Array, e: float, P: Array, Z: Array) -> tuple[Array, float, float, float]:
    """A feasible P, its value, the dual's value at a feasible Z, and their distance relative to tr P + cᵀP⁻¹c."""
    excess = float(np.linalg.eigvalsh(K - P)[-1])
    P = P + max(excess, 0.0) * np.eye(len(c))
    values, Q = np.linalg.eigh(Z)
    Z = (Q * values.clip(0, 1 - NEAR_ONE if e else 1)) @ Q.T
    push = _push(P, c)
    size = float(np.trace(P)) + push
    primal = size + _offset(P, e)
    dual = float(np.vdot(Z, K)) + _inner(Z, c, e)
    return P, primal, dual, abs(primal - dual) / size if size else 0.0


def _push(P: Array, c: Array) -> float:
    """CᵀP⁻¹c, with c in the range of P where that is singular."""
    values, Q = np.linalg.eigh(P)
    seen = values > len(c) * np.finfo(float).eps * values[-1]
    return float(((Q.T @ c)[seen] ** 2 / values[seen]).sum())


def _offset(P: Array, e: float) -> float:
    """The part of tr φ(P) that vanishes with e."""
    p = np.linalg.eigvalsh(P)
    return float(-(2 * e * np.log(p / e) + e**2 / p).sum()) if e else 0.0


def _inner(Z: Array, c: Array, e: float) -> float:
    """min_P [tr φ(P) + cᵀP⁻¹c − ⟨Z, P⟩]."""
    values, Q = np.linalg.eigh(Z)
    if e == 0:
        return 2 * math.sqrt(max(float(((1 - values) * (Q.T @ c) ** 2).sum()), 0.0))
    rest = np.sqrt(1 - values)
    half, inverse = (Q * rest) @ Q.T, (Q / rest) @ Q.T
    d = half @ c
    P = inverse @ (e * np.eye(len(c)) + _root(e**2 * Z + np.outer(d, d))) @ inverse
    P = (P + P.T) / 2
    return float(np.trace(P)) + _offset(P, e) + _push(P, c) - float(np.vdot(Z, P))


def _positive(M: Array) -> tuple[Array, Array]:
    """M₊, and the projector on its range."""
    values, Q = np.linalg.eigh(M)
    Q, values = Q[:, values > 0], values[values > 0]
    return (Q * values) @ Q.T, Q @ Q.T


def _root(M: Array) -> Array:
    values, Q = np.linalg.eigh(M)
    return np.asarray((Q * np.sqrt(values.clip(min=0))) @ Q.T)
