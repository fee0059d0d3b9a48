r"""Where a full-matrix preconditioner P = (V^½ + εI)/η settles (THEORY section 7), with a rigorous duality gap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from numerics.boundary import CPU, to_numpy, to_tensor
from numerics.errors import InputRefused
from numerics.preconditioner.matrix_program import Array, by_cvxpy, certify, with_offset, without_offset

# The largest n, and the largest for the reference solver; both decompose or solve with n×n matrices.
LIMIT, REFERENCE_LIMIT = 2000, 40


@dataclass(frozen=True)
class FullMatrixSolution:
    """P̄ over matrices with its certificate: `optimal` means gap ≤ tol, `inaccurate` that it is not."""

    P: Any
    """(n, n), feasible: H ⪯ λ*P."""
    Z: Any
    """(n, n), the multiplier Z = λ*Σ ⪰ 0 of H ⪯ λ*P."""
    gap: float
    """(primal − dual)/(η² tr P + gᵀP⁻¹g): how far the objective can be from its optimum."""
    status: str
    primal: float
    """tr φ(P) + gᵀP⁻¹g, with the constant of φ such that φ ≥ 0."""
    dual: float
    """Value of the Lagrangian dual at Z, a lower bound of the optimum."""


def stationary_full_matrix(
    hessian: Any,
    g: Any,
    eta: float,
    threshold: float = 2.0,
    *,
    eps: float = 0.0,
    solver: str = "auto",
    tol: float = 1e-8,
) -> FullMatrixSolution:
    r"""Find P̄ = argmin η² tr P − 2ηε ln det P − ε² tr P⁻¹ + gᵀP⁻¹g subject to H ⪯ λ*P, P ⪰ ε/η: where P = (V^½ + εI)/η settles.

    For ε = 0 it is in closed form up to one number; P̄ is then singular, of rank at most one above that of Σ.

    Args:
        hessian: H, a symmetric (n, n) array or tensor.
        g: gradient, (n,). A tensor gives tensors of its device and dtype, anything else arrays.
        eta: learning rate η.
        threshold: λ*.
        eps: ε.
        solver: "auto", or "cvxpy" (reference; n ≤ 40 and ε = 0).
        tol: gap to reach.

    Returns:
        P̄, the multiplier, and the gap, rigorous up to round-off.

    Raises:
        InputRefused: on malformed input.

    Example:
        >>> solution = stationary_full_matrix([[4.0, 0.0], [0.0, -1.0]], [0.0, 0.5], eta=1.0)
        >>> solution.status, solution.P.round(6).tolist()
        ('optimal', [[2.0, 0.0], [0.0, 0.5]])
    """
    K, c = _accept(hessian, g, eta, threshold, eps, solver)
    if solver == "cvxpy":
        P, Z = by_cvxpy(K, c)
    else:
        P, Z = without_offset(K, c) if eps == 0 else with_offset(K, c, eps / eta, tol)
    P, primal, dual, gap = certify(K, c, eps / eta, P, Z)
    shown: list[Any] = [to_tensor(x, g) if isinstance(g, Tensor) else x for x in (P, Z * eta**2 / threshold)]
    status = "optimal" if gap <= tol else "inaccurate"
    return FullMatrixSolution(shown[0], shown[1], gap, status, eta**2 * primal, eta**2 * dual)


def _accept(hessian: Any, g: Any, eta: float, threshold: float, eps: float, solver: str) -> tuple[Array, Array]:
    """K = H/λ* and c = g/η in float64."""
    for name, number, least in (
        ("eta", eta, "positive"),
        ("threshold", threshold, "positive"),
        ("eps", eps, "nonnegative"),
    ):
        good = math.isfinite(number) and (number > 0 if least == "positive" else number >= 0)
        _refuse(not good, f"{name} must be a finite {least} number, got {number}; pass the rule's own.")
    like = torch.zeros((), dtype=torch.float64, device=CPU)
    H, c = (to_numpy(to_tensor(to_numpy(x) if isinstance(x, Tensor) else x, like)) for x in (hessian, g))
    n = len(c) if c.ndim == 1 else 0
    _refuse(
        n == 0 or H.shape != (n, n),
        f"the Hessian must be an (n, n) matrix and g have shape (n,), got {H.shape} and {c.shape}.",
    )
    _refuse(n > LIMIT, f"a full matrix needs n ≤ {LIMIT}, got {n}; use stationary_preconditioner, which is diagonal.")
    _refuse(
        not (np.isfinite(H).all() and np.isfinite(c).all()),
        "the Hessian and g must be finite, got NaN or infinite entries.",
    )
    _refuse(
        bool(np.abs(H - H.T).max() > 1e-7 * np.abs(H).max()),
        "the Hessian must be symmetric, got one that is not; pass (H + Hᵀ)/2 if meant.",
    )
    _refuse(solver not in {"auto", "cvxpy"}, f'solver must be "auto" or "cvxpy", got {solver!r}.')
    _refuse(
        solver == "cvxpy" and (eps > 0 or n > REFERENCE_LIMIT),
        f'solver "cvxpy" needs eps = 0 and n ≤ {REFERENCE_LIMIT}, got eps = {eps}, n = {n}; use "auto".',
    )
    return (H + H.T) / (2 * threshold), c / eta


def _refuse(bad: bool, sentence: str) -> None:
    if bad:
        raise InputRefused(sentence)
