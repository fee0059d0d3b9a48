r"""The projection form and the hidden progress measure (THEORY section 6), derived for the rule at hand.

With P constant the central flow is the stable flow's velocity projected, in the P-metric, onto the directions that do not
raise the critical eigenvalues; L + (γ/2)‖w‖²_P then falls along it. With P moving the admissible set is affine, and
L need not fall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.calculus import is_zero, solve
from theory.matrices import applied, divided
from theory.normal_form import NormalForm
from theory.symbols import Shape, T, Total, g, gradS, q, quantity, sigma2, w, wdot

_M = sp.Symbol("M", nonnegative=True)


@dataclass(frozen=True)
class Projection:
    """What SymPy verified, claim → outcome; ``constant`` says whether P is constant; ``descent`` is dL/dt for one mode."""

    constant: bool
    checks: dict[str, bool]
    descent: sp.Expr | None

    def step(self, step: Callable[..., Any]) -> Any:
        """Describe as a step of the chain."""
        rate = (
            r"-\lVert\dot w\rVert_P^2"
            if self.constant
            else r"-\lVert\dot w\rVert_P^2-\tfrac12\langle X,\lambda^*U^\top\dot PU\rangle"
        )
        energy = (
            r"\tfrac{d}{dt}\left[L+\tfrac\gamma2\lVert w\rVert_P^2\right]"
            if self.constant
            else r"\tfrac{dL}{dt}+\gamma\langle w,P\dot w\rangle"
        )
        why = (
            "P is constant: the flow is a projection in the P-metric, X = 2M with M its multiplier, and the loss falls."
            if self.constant
            else "P moves: the admissible set is affine, and the loss along the flow may rise through the second term."
        )
        one = (("one mode", r"\tfrac{dL}{dt}", self.descent),) if self.descent is not None else ()
        return step(
            "projection",
            "Projection form and progress",
            "section 6",
            why,
            (("progress", energy, rate), *one),
            (),
            self.checks,
        )


def project(form: NormalForm) -> Projection:
    """Derive the projection form and the rate of the loss along the central flow.

    Args:
        form: the rule in normal form.

    Returns:
        The verified claims.
    """
    constant = not form.P.free_symbols & set(form.accumulators)
    sign = {} if form.shape is Shape.MATRIX else {"positive": True}
    P = quantity("P", form.shape, **sign)  # whatever function of the accumulators it is
    velocity = -form.gamma * w - divided(g + q / 2, P)
    work = Total((g + form.gamma * applied(P, w)) * wdot)
    # Pẇ = −γPw − g − ½q; complementarity gives ⟨q, ẇ⟩ = ∑ X_ij⟨T_ij, ẇ⟩ = ⟨X, C⟩ with C = λ*UᵀṖU.
    gradient = solve(sp.expand(applied(P, velocity - wdot)), g)[0]
    coupling = sp.Symbol("XC", real=True)
    descent = sp.expand(work.subs(g, gradient)).subs(Total(q * wdot), 0 if constant else coupling)
    expected = -Total(applied(P, wdot) * wdot) - (0 if constant else coupling / 2)
    checks = {"dL/dt + γ⟨w, Pẇ⟩ = −‖ẇ‖²_P" + ("" if constant else " − ½⟨X, C⟩"): is_zero(sp.expand(descent - expected))}
    if not constant:
        return Projection(False, _verified(checks), None)
    stationarity = P * (wdot - (-form.gamma * w - g / P)) + _M * T
    minimiser = solve(stationarity, wdot)[0]
    checks["the projection's KKT point is the flow with X = 2M"] = is_zero(minimiser - (velocity.subs(q, 2 * _M * T)))
    one_mode = _one_mode(form, checks) if form.shape is Shape.SCALAR and form.gamma == 0 else None
    return Projection(True, _verified(checks), one_mode)


def _one_mode(form: NormalForm, checks: dict[str, bool]) -> sp.Expr:
    """dL/dt for one critical mode, and its sign by Cauchy–Schwarz on the Gram matrix of (∇L, ∇S)."""
    velocity = -(g + sigma2 * gradS / 2) / form.P
    variance = solve(Total(gradS * velocity), sigma2)[0]
    descent = sp.factor(sp.expand(Total(g * velocity)).subs(sigma2, variance))
    a, b, c = Total(g**2), Total(g * gradS), Total(gradS**2)
    gram = sp.Matrix([[a, b], [b, c]])
    checks["one mode: dL/dt = −det Gram(∇L, ∇S)/(P‖∇S‖²)"] = is_zero(descent + gram.det() / (form.P * c))
    lagrange = _lagrange_identity()
    checks["det Gram(∇L, ∇S) ≥ 0 (Lagrange's identity)"] = lagrange
    return descent


def _lagrange_identity(n: int = 3) -> bool:
    """‖a‖²‖b‖² − ⟨a,b⟩² is half the sum of the squares (a_i b_j − a_j b_i)²; any two vectors span at most a plane, n = 3 exceeds it."""
    a, b = (sp.Matrix(sp.symbols(f"{name}0:{n}", real=True)) for name in "ab")
    squares = sum((a[i] * b[j] - a[j] * b[i]) ** 2 for i in range(n) for j in range(n))
    return is_zero(a.dot(a) * b.dot(b) - a.dot(b) ** 2 - squares / 2)


def _verified(checks: dict[str, bool]) -> dict[str, bool]:
    failed = [claim for claim, ok in checks.items() if not ok]
    assert not failed, f"SymPy does not confirm: {failed}"
    return checks
