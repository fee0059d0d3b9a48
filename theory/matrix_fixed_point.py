r"""Where a matrix preconditioner settles if w is held: the program (T14) over matrices, derived through the eigenvalues of P.

P = ψ(V) acts on the eigenvalues of V, so that ψ is read off with √V → √x and I → 1. At rest V = αggᵀ + B·HΣH, and at the edge
HΣH = λ*²PΣP. This is the stationarity of min tr φ(P) + (α/B) gᵀP⁻¹g subject to H ⪯ λ*P, with φ′(p) = ψ⁻¹(p)/(Bp²) and Z = λ*Σ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.calculus import is_zero, opaquely
from theory.matrices import Congruence, Eye, MatrixSqrt, Outer, Solve, SpectralTrace
from theory.stability import is_positive
from theory.symbols import HSH_matrix, MatrixQuantity, P_matrix, Quantity, Shape, Sigma_matrix, Total, g, quantity

eigenvalue = quantity("P", Shape.SCALAR, positive=True)
"""An eigenvalue p of P; functions of it stand for functions of the matrix."""


@dataclass(frozen=True)
class MatrixRest:
    """A matrix accumulator V at rest, k(αggᵀ + B·HΣH − V) = 0, and P = ψ(V) as a function ``psi`` of an eigenvalue ``x`` of V."""

    V: Quantity
    x: sp.Symbol
    psi: sp.Expr
    k: sp.Expr
    alpha: sp.Expr
    B: sp.Expr

    def stationary(self, threshold: sp.Expr) -> sp.Expr:
        """What vanishes at rest: V − αggᵀ − Bλ*²PΣP."""
        edge = threshold**2 * Congruence(P_matrix, Sigma_matrix)
        return self.V - self.alpha * Outer(g, g) - self.B * edge

    def objective(self, phi: sp.Expr) -> sp.Expr:
        """Φ(P) = tr φ(P) + (α/B)⟨g, P⁻¹g⟩."""
        return SpectralTrace(phi) + self.alpha / self.B * Total(g * Solve(P_matrix, g))

    def convex(self, derivative: sp.Expr, lower: sp.Expr) -> bool:
        """Whether φ″ ≥ 0 is proved from ``lower`` up, and α ≥ 0: tr φ(P) of a convex φ is convex, and so is gᵀP⁻¹g."""
        beyond = sp.Dummy("r", nonnegative=True)
        curvature = sp.factor(sp.diff(derivative, eigenvalue).subs(eigenvalue, lower + beyond))
        return bool(curvature.is_nonnegative) and bool(sp.factor(self.alpha / self.B).is_nonnegative)

    def verify(self, derivative: sp.Expr, inverse: sp.Expr, threshold: sp.Expr) -> dict[str, bool]:
        r"""Verify in symbols that do not commute that the program's KKT system is the accumulator at rest.

        The gradient of tr φ(P) is φ′(P), that of ⟨g, P⁻¹g⟩ is −P⁻¹ggᵀP⁻¹, and the multiplier Z = λ*Σ enters by −λ*Z. Between two
        P this must be (ψ⁻¹(P) − αggᵀ)/B − λ*²PΣP, what vanishes at rest.
        """
        P, G, Sigma = (sp.Symbol(n, commutative=False) for n in ("P", "G", "Sigma"))
        ratio = sp.factor(self.alpha / self.B)
        gradient = -ratio * P**-1 * G * P**-1 - threshold**2 * Sigma
        rest = -ratio * G - threshold**2 * P * Sigma * P
        # Functions of P alone commute with it: Pφ′(P)P is p²φ′(p) of its eigenvalues.
        own = is_zero(sp.factor(eigenvalue**2 * derivative - inverse / self.B))
        verified = own and sp.expand(sp.expand(P * gradient * P) - rest) == 0
        assert verified, "the KKT system is not the accumulator's equation at rest"
        return {"the KKT system with Z = λ*Σ is the accumulator's equation at rest": verified}


def matrix_rest(P: sp.Expr, V: Quantity, rate: sp.Expr, domains: Mapping[sp.Symbol, Any]) -> MatrixRest | str:
    """Read k, α, B and ψ off the accumulator's rate.

    Args:
        P: preconditioner.
        V: its accumulator.
        rate: of V, with HΣH.
        domains: of the hyperparameters.

    Returns:
        The accumulator at rest, or one sentence on why this is not derived.
    """
    x = sp.Dummy("x", positive=True)
    psi = P.xreplace({MatrixSqrt(V): sp.sqrt(x), V: x, Eye(): sp.S.One})
    G, rate = Outer(g, g), sp.expand(rate)
    k, gain, drive = -rate.coeff(V), rate.coeff(HSH_matrix), rate.coeff(G)
    if not is_zero(rate - gain * HSH_matrix - drive * G + k * V) or is_zero(k):
        return f"the accumulator {V} is not an exponential average of ggᵀ: its rate is {rate}."
    if psi.has(MatrixQuantity, MatrixSqrt, Outer):
        return f"P = {P} is not a function of the eigenvalues of {V} alone."
    alpha, B = (opaquely(sp.factor, e / k) for e in (drive, gain))
    if not all(_positive(e, domains) for e in (k, alpha, B, sp.diff(psi, x))):
        return f"the average of {V}, or P as a function of it, is not provably increasing."
    return MatrixRest(V, x, psi, k, alpha, B)


def _positive(expr: sp.Expr, domains: Mapping[sp.Symbol, Any]) -> bool:
    """Whether every factor is positive by its symbols, or for all hyperparameters inside their domains."""
    factors = [f for f in sp.Mul.make_args(sp.factor(expr)) if not f.is_positive]
    return is_positive(sp.Mul(*factors), domains)
