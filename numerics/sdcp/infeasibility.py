r"""Proof that (T11) has no solution.

If V ⪰ 0, ℬᵀ[V] ⪯ 0 and ⟨𝒜, V⟩ < 0 then ⟨V, 𝒜 + ℬ[X]⟩ = ⟨𝒜, V⟩ + ⟨ℬᵀ[V], X⟩ < 0 for every X ⪰ 0, so 𝒜 + ℬ[X] ⪰ 0 is
impossible. For monotone ℬ such a V has ½(ℬ + ℬᵀ)[V] = 0: ℬ is blind to a direction in which 𝒜 is violated.
"""

from dataclasses import dataclass

import clarabel
import numpy as np

from numerics.sdcp.clarabel_solver import solve_conic
from numerics.sdcp.problem import ROUND_OFF, ScaledProblem
from numerics.sdcp.svec import Array, smat, svec, svec_table

_PROOF_RADIUS = 1e11
"""With ℬ and 𝒜 known to round-off, ℬᵀ[V] ⪯ 0 can be shown only to round-off; a relative radius beyond this is that."""
_POLISH_STEPS = 8


@dataclass(frozen=True)
class Infeasibility:
    """A direction V ⪰ 0, tr V = 1 in scaled coordinates, that rules out solutions of (T11)."""

    V: Array
    """(k, k), in original coordinates."""
    alignment: float
    """⟨𝒜, V⟩ relative to ‖𝒜‖, scaled coordinates; negative."""
    excess: float
    """max(0, λ_max ℬᵀ[V]) relative to ‖ℬ‖, scaled coordinates; 0 up to round-off."""

    @property
    def radius(self) -> float:
        """A solution, if there were one, would have tr X at least this large, in units of ‖𝒜‖/‖ℬ‖."""
        return -self.alignment / self.excess if self.excess > 0 else (np.inf if self.alignment < 0 else 0.0)

    @property
    def conclusive(self) -> bool:
        """Whether that is out of the question in double precision."""
        return self.radius >= _PROOF_RADIUS


def find_infeasibility(problem: ScaledProblem) -> Infeasibility | None:
    """Look for a conclusive direction V by a conic program, polish it and verify it on the data.

    Args:
        problem: The scaled problem.

    Returns:
        The verified direction, or None: then nothing is proved, neither that a solution exists nor that none does.
    """
    values, vectors = np.linalg.eigh(problem.symmetric_part())
    monotone = values[0] >= -ROUND_OFF
    basis = vectors[:, values <= ROUND_OFF] if monotone else np.eye(values.size)
    if basis.shape[1] == 0:
        return None
    V = _conic_direction(problem, basis)
    candidates = [_verify(problem, L) for L in _factors(V)]
    if monotone:
        candidates += [_verify(problem, _polish(problem, L)) for L in _factors(V)]
    best = max((c for c in candidates if c is not None), key=lambda c: c.radius, default=None)
    return best if best is not None and best.conclusive else None


def _conic_direction(problem: ScaledProblem, basis: Array) -> Array:
    # min ⟨𝒜, V⟩ over V ⪰ 0, −ℬᵀ[V] ⪰ 0, tr V ≤ 1, V in the span of the basis. On the null space of a self-adjoint ℬ
    # the second condition holds as an equation and is left out: it would have no interior.
    trace = np.zeros(problem.a.size)
    trace[svec_table(problem.k).diagonal] = 1.0
    cone = clarabel.PSDTriangleConeT(problem.k)
    rows, rhs, cones = [-basis, (trace @ basis)[None, :]], [np.zeros(problem.a.size), np.ones(1)], [cone]
    cones.append(clarabel.NonnegativeConeT(1))
    image = problem.M.T @ basis
    if np.abs(image).max() > ROUND_OFF:
        rows.append(image)
        rhs.append(np.zeros(problem.a.size))
        cones.append(cone)
    d = basis.shape[1]
    y, _ = solve_conic(np.zeros((d, d)), problem.a @ basis, np.vstack(rows), np.concatenate(rhs), cones)
    return smat(basis @ y, problem.k)


def _factors(V: Array) -> list[Array]:
    # V = LLᵀ is PSD exactly. How many eigenvalues belong to V and how many to the solver's tolerance is not known, so
    # every cut with a clear gap is tried.
    values, Q = np.linalg.eigh(V) if np.isfinite(V).all() else (np.zeros(1), V)
    if values[-1] <= 0:
        return []
    factors: list[Array] = []
    for cut in (0.0, 1e-8, 1e-6, 1e-4, 1e-2):
        keep = values > cut * values[-1]
        if not factors or keep.sum() < factors[-1].shape[1]:
            factors.append(Q[:, keep] * np.sqrt(values[keep]))
    return factors


def _polish(problem: ScaledProblem, L: Array) -> Array:
    """Gauss–Newton on ½(ℬ + ℬᵀ)[LLᵀ] = 0 with tr LLᵀ = 1.

    Args:
        problem: The scaled problem.
        L: (k, p), the start.

    Returns:
        L after a few steps of least change.
    """
    k, p = L.shape
    M = problem.symmetric_part()
    unit = np.eye(k * p).reshape(k * p, k, p)
    for _ in range(_POLISH_STEPS):
        residual = np.append(M @ svec(L @ L.T), float(np.vdot(L, L)) - 1.0)
        change = unit @ L.T
        rows = np.stack([np.append(M @ svec(E + E.T), 2.0 * np.trace(E)) for E in change], axis=1)
        L = L - np.linalg.lstsq(rows, residual, rcond=1e-10)[0].reshape(k, p)
    return L


def _verify(problem: ScaledProblem, L: Array) -> Infeasibility | None:
    V = L @ L.T
    trace = float(np.trace(V))
    if not np.isfinite(trace) or trace <= 0:
        return None
    V /= trace
    alignment = float(problem.a @ svec(V)) / float(np.linalg.norm(smat(problem.a, problem.k), 2))
    highest = float(np.linalg.eigvalsh(smat(problem.M.T @ svec(V), problem.k))[-1])
    size = float(np.linalg.norm(problem.M, 2))
    excess = max(0.0, highest) / size if size > 0 else 0.0
    # ⟨𝒜, V⟩ is invariant if V goes with the inverse congruence of 𝒜 → D𝒜D.
    original = V * (problem.D[:, None] * problem.D[None, :])
    return Infeasibility(original, alignment, excess)
