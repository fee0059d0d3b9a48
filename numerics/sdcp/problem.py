r"""The complementarity problem 0 ⪯ X ⟂ 𝒜 + ℬ[X] ⪰ 0 (T11) in well-scaled coordinates."""

from dataclasses import dataclass

import numpy as np

from numerics.sdcp.svec import Array, operator_matrix, smat, svec, svec_table

ROUND_OFF = 1e-12
"""Below this, relative to ‖ℬ‖ in scaled coordinates, an eigenvalue or a skew part counts as round-off."""

_TINY = 1e-280
"""Relative size below which ℬ_iiii counts as 0, so that D⁴ cannot overflow."""

_BLIND = 1e-20
"""Below this, relative to the rest of its row squared, ℬ_iiii is round-off of zero and says nothing about scale."""


@dataclass(frozen=True)
class ScaledProblem:
    """(T11) with A → DAD/α, M → (D⊗D)M(D⊗D)/β, so that X = (α/β) D Y D; the cone and complementarity are kept.

    `a` = svec(A) and `M` are the data of the scaled problem 0 ⪯ Y ⟂ smat(a + M svec Y) ⪰ 0.
    """

    a: Array
    M: Array
    D: Array
    unit: float
    power: int
    """α/β = unit · 2^power, kept apart because their product may overflow."""

    @property
    def k(self) -> int:
        """Number of modes."""
        return int(self.D.size)

    def unscale(self, Y: Array) -> Array:
        """From scaled to original coordinates.

        Args:
            Y: (k, k), in scaled coordinates.

        Returns:
            X = (α/β) D Y D.
        """
        return np.ldexp(Y * (self.D[:, None] * self.D[None, :]) * self.unit, self.power)

    def rescale(self, X: Array) -> Array:
        """From original to scaled coordinates.

        Args:
            X: (k, k), in original coordinates.

        Returns:
            Y = (β/α) D⁻¹ X D⁻¹.
        """
        return np.ldexp(X, -self.power) / (self.D[:, None] * self.D[None, :] * self.unit)

    def slack(self, Y: Array) -> Array:
        """The second cone variable.

        Args:
            Y: (k, k), in scaled coordinates.

        Returns:
            A + ℬ[Y], (k, k).
        """
        return smat(self.a + self.M @ svec(Y), self.k)

    @property
    def self_adjoint(self) -> bool:
        """Whether ⟨X, ℬ[Y]⟩ = ⟨Y, ℬ[X]⟩ to round-off, the condition for (T12)."""
        return float(np.abs(self.M - self.M.T).max(initial=0.0)) <= ROUND_OFF

    def symmetric_part(self) -> Array:
        """The part of ℬ that decides monotonicity.

        Returns:
            ½(M + Mᵀ); ℬ is monotone iff it is PSD. ⟨X, ℬ[X]⟩ depends on it alone.
        """
        return 0.5 * (self.M + self.M.T)


def power_of_two(array: Array) -> int:
    """The size of an array as an exponent; scaling by it is exact.

    Args:
        array: Any finite array.

    Returns:
        e with max |array| in [½, 1)·2^e; 0 for an empty or zero array.
    """
    return int(np.frexp(np.abs(array).max(initial=0.0))[1])


def diagonal_scaling(diagonal: Array) -> Array:
    """D_ii = ℬ_iiii^(−1/4), 1 where ℬ_iiii is not positive: then (DℬD)_iiii = 1.

    Args:
        diagonal: (k,), the numbers ℬ_iiii.

    Returns:
        (k,), the diagonal of D.
    """
    positive = diagonal > _TINY * diagonal.max(initial=0.0)
    return np.where(positive, np.where(positive, diagonal, 1.0) ** -0.25, 1.0)


def _solver_scaling(M: Array, k: int) -> Array:
    # As diagonal_scaling, but a row blind to its own diagonal (ℬ_iiii = 0 or its round-off) takes its scale from
    # ℬ_ijij, so that the scaling stays covariant under congruence.
    table = svec_table(k)
    own = M.diagonal()[table.diagonal]
    D = diagonal_scaling(own)
    pairs = np.abs(smat(M.diagonal() * table.weights, k))
    np.fill_diagonal(pairs, 0.0)
    cross = (pairs * D**2).max(axis=1, initial=0.0)
    blind = own <= _BLIND * cross**2
    if not blind.any():
        return D
    seen = (pairs * np.where(blind, 0.0, D**2)).max(axis=1)
    return np.where(blind, np.where(seen > 0, np.where(seen > 0, seen, 1.0) ** -0.5, 1.0), D)


def scale_problem(A: Array, B: Array) -> ScaledProblem:
    """Bring (T11) to unit size in every row.

    Args:
        A: (k, k), symmetric.
        B: (k, k, k, k).

    Returns:
        The problem in coordinates where ℬ_iiii = 1, max |M| = 1 and the most negative eigenvalue of A is −1 (where A
        has a negative eigenvalue; its norm is 1 where not).
    """
    k = A.shape[0]
    # Unit size first: products with D must not overflow whatever the units of A and B.
    power_A, power_B = power_of_two(A), power_of_two(B)
    A, M = np.ldexp(A, -power_A), operator_matrix(np.ldexp(B, -power_B))
    D = _solver_scaling(M, k)
    table = svec_table(k)
    pairs = D[table.rows] * D[table.cols]
    scaled_A = A * (D[:, None] * D[None, :])
    scaled_M = M * (pairs[:, None] * pairs[None, :])
    lowest = float(np.linalg.eigvalsh(scaled_A)[0]) if k else 0.0
    alpha = -lowest if lowest < 0 else float(np.abs(scaled_A).max(initial=0.0)) or 1.0
    beta = float(np.abs(scaled_M).max(initial=0.0)) or 1.0
    return ScaledProblem(svec(scaled_A) / alpha, scaled_M / beta, D, alpha / beta, power_A - power_B)
