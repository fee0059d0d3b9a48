r"""The certificate: how far X is from solving (T11), from (𝒜, ℬ, X) alone, never from a solver's own report."""

from dataclasses import dataclass

import numpy as np

from numerics.sdcp.problem import diagonal_scaling, power_of_two
from numerics.sdcp.svec import Array

OPTIMAL_TOLERANCE = 1e-8
"""A solution is called optimal only if its worst residual is at most this."""


@dataclass(frozen=True)
class Residuals:
    """Scale-free residuals of 0 ⪯ X ⟂ S ⪰ 0, S = 𝒜 + ℬ[X], in coordinates where ℬ_iiii = 1; 0 is exact.

    Norms are spectral, σ = ‖𝒜‖ + ‖ℬ[X]‖.
    """

    primal: float
    """max(0, −λ_min X) / ‖X‖."""
    dual: float
    """max(0, −λ_min S) / σ."""
    gap: float
    """|⟨X, S⟩| / (‖X‖ σ)."""

    @property
    def worst(self) -> float:
        """The largest of the three, r."""
        return max(self.primal, self.dual, self.gap)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else 0.0


def _norm(eigenvalues: Array) -> float:
    return float(max(abs(eigenvalues[0]), abs(eigenvalues[-1])))


def residuals(A: Array, B: Array, X: Array) -> Residuals:
    """Certify X as a solution of (T11).

    The coordinates are A → DAD, ℬ[X] → Dℬ[X]D, X → D⁻¹XD⁻¹ with D_ii = ℬ_iiii^(−1/4) (1 where that is not
    positive), so the result does not depend on the units of the modes. σ measures what is subtracted in S; relative to
    ‖A‖ alone a wrong X of large ℬ[X] could not be told from round-off.

    Args:
        A: (k, k), symmetric.
        B: (k, k, k, k), ℬ[X]_ij = ∑_kl B_ijkl X_kl.
        X: (k, k), symmetric.

    Returns:
        The residuals; infinite if X is not finite.
    """
    k = A.shape[0]
    if k == 0:
        return Residuals(0.0, 0.0, 0.0)
    # r does not change if 𝒜, ℬ and X get unit size; products with D then stay in range.
    power_A, power_B = power_of_two(A), power_of_two(B)
    A, flat, X = np.ldexp(A, -power_A), np.ldexp(B.reshape(k * k, k * k), -power_B), np.ldexp(X, power_B - power_A)
    if not np.isfinite(X).all():
        return Residuals(np.inf, np.inf, np.inf)
    D = diagonal_scaling(flat.diagonal()[:: k + 1])
    DD = D[:, None] * D[None, :]
    image = (flat @ X.ravel()).reshape(k, k)
    image = 0.5 * DD * (image + image.T)
    scaled_A, scaled_X = DD * A, X / DD
    S = scaled_A + image
    eig_X, eig_S, eig_A, eig_image = np.linalg.eigvalsh(np.stack([scaled_X, S, scaled_A, image]))
    norm_X, sigma = _norm(eig_X), _norm(eig_A) + _norm(eig_image)
    return Residuals(
        primal=_ratio(max(0.0, -float(eig_X[0])), norm_X),
        dual=_ratio(max(0.0, -float(eig_S[0])), sigma),
        gap=_ratio(abs(float(np.vdot(scaled_X, S))), norm_X * sigma),
    )
