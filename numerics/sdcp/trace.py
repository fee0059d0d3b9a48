"""The complementarity problem with a given trace, for one number that all modes share (THEORY sections 5 and 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from numerics.sdcp.solve import solve_sdcp


def solve_with_trace(A: npt.NDArray[Any], B: npt.NDArray[Any], trace: float) -> npt.NDArray[Any]:
    """X ⪰ 0 with given trace and 0 ⪯ X ⟂ μ1 + A + ℬ[X] ⪰ 0 for some μ, which falls as the trace grows.

    Args:
        A: (k, k), symmetric.
        B: (k, k, k, k), a positive semidefinite map on symmetric matrices.
        trace: > 0.

    Returns:
        X, (k, k). Where ℬ does not determine it, all of the trace is on the lowest direction of A.
    """
    k, one = len(A), np.eye(len(A))
    values, Q = np.linalg.eigh(A)
    lowest = trace * np.outer(Q[:, 0], Q[:, 0])
    if k == 1:
        return lowest

    def solution(mu: float) -> npt.NDArray[Any] | None:
        found = solve_sdcp(A + mu * one, B)
        return None if found.status == "unsolvable" else np.asarray(found.X)

    # At μ = −λ_min(A) − ‖ℬ‖·trace, X must already have more than the trace wanted.
    high, reach = -float(values[0]), float(np.linalg.norm(B)) * trace
    if not reach or solution(high - reach) is None:
        return lowest

    def excess(mu: float) -> float:
        X = solution(mu)
        return float("inf") if X is None else float(np.trace(X)) - trace

    low = high - reach
    if not np.isfinite(excess(low)) or excess(low) <= 0:
        return lowest
    mu = brentq(excess, low, high, xtol=1e-12 * max(reach, abs(high)))
    X = solution(mu)
    return lowest if X is None or not np.trace(X) > 0 else X * (trace / np.trace(X))
