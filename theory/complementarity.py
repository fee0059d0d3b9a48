r"""The complementarity problem for the oscillation covariance (THEORY section 5), and its closed form for one critical mode.

Along the flow the margin λ*P − H on the critical modes changes at the rate Uᵀ(λ*Ṗ + λ̇*P − Ḣ)U, which is affine in X; X is
determined by 0 ⪯ X ⟂ 𝒜 + ℬ[X] ⪰ 0 (T11).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.calculus import directional, is_zero, opaquely, simplify, solve
from theory.flow import Flow, collect, preconditioner_rate
from theory.matrices import applied
from theory.normal_form import NormalForm
from theory.stability import Stability
from theory.symbols import P_matrix, Quantity, S, Shape, T, Total, X, g, gradS, lam, sigma2, u, v, y, y2


@dataclass(frozen=True)
class Complementarity:
    """The rates of the margin, per pair of modes (u, v): without oscillation, and per unit of X on a pair.

    ``one_mode`` is X > 0 solving 𝒜 + ℬX = 0 for a single critical mode. ``variance`` is the closed form of σ², the variance
    along the top eigenvector of H, at the edge; it exists for a scalar preconditioner, and ``at_edge`` says what was used.
    """

    stable: sp.Expr
    per_X: sp.Expr
    one_mode: sp.Expr
    variance: sp.Expr | None
    at_edge: dict[Quantity, sp.Expr]


def margin_rate(form: NormalForm, stab: Stability, w_rate: sp.Expr, a_rates: dict[Quantity, sp.Expr]) -> sp.Expr:
    r"""Uᵀ Ȧ U for a pair of modes (u, v) and T = ∇H[u, v]: λ*uᵀṖv + λ̇*uᵀPv − ⟨T, ẇ⟩ (T10)."""
    threshold_rate = directional(stab.threshold, a_rates) if a_rates else sp.S.Zero
    P_rate = preconditioner_rate(form, a_rates)
    quadratic = (Total(u * applied(M, v)) for M in (P_rate, form.P))
    return stab.threshold * next(quadratic) + threshold_rate * next(quadratic) - Total(T * w_rate)


def complementarity(form: NormalForm, stab: Stability, flow: Flow) -> Complementarity:
    """Assemble the rates of the margin and solve the case of one critical mode.

    Args:
        form: the rule in normal form.
        stab: its threshold.
        flow: its right-hand sides.

    Returns:
        The rates and the closed forms, SymPy's own solution of 𝒜 + ℬX = 0.
    """
    P = P_matrix if form.shape is Shape.MATRIX else form.P
    critical = {y: stab.threshold * applied(P, u), y2: stab.threshold * applied(P, v)}  # HU = λ*PU
    stable = margin_rate(form, stab, flow.w_stable, {a: flow.settled(a) for a in flow.a_stable})
    rates = {a: e.xreplace(flow.settle).xreplace(critical) for a, e in flow.a_X.items()}
    per_X = margin_rate(form, stab, flow.w_X, rates)
    if form.shape is Shape.MATRIX:
        stable, per_X = collect(stable), sp.Add(*(collect(e) for e in _by_third_derivative(per_X)))
    A, B = (e.subs(v, u) for e in (stable, per_X))
    rate, slope = sp.symbols("A B")
    one_mode = sp.solve(rate + slope * X, X)[0].xreplace({rate: A, slope: B})
    assert is_zero(A + B * one_mode), "the one-mode solution does not keep the margin"
    moving = [a for a in form.accumulators if form.P.has(a)]
    timed = bool(stab.threshold.free_symbols & set(form.clocks))
    # With a clock SymPy's roots grow without bound.
    closed = form.shape is Shape.SCALAR and len(moving) <= 1 and not timed
    variance, at_edge = _variance(form, stab, A, B) if closed else (None, {})
    return Complementarity(stable, per_X, one_mode, variance, at_edge)


def _by_third_derivative(expr: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The terms with T, and those without."""
    rest = expr.xreplace({T: sp.S.Zero})
    return expr - rest, rest


def _variance(form: NormalForm, stab: Stability, A: sp.Expr, B: sp.Expr) -> tuple[sp.Expr, dict[Quantity, sp.Expr]]:
    """σ² for a scalar preconditioner at the edge S = λ*P, in S, ∇S and ∇L; u = e/√P for the unit eigenvector e of H."""
    scale = {Total(u**2): 1 / form.P}
    edge = _edge(form, stab)

    def in_sharpness(expr: sp.Expr) -> sp.Expr:
        return sp.expand(expr.subs(T, gradS / form.P).subs(scale)).subs(edge).replace(sp.Abs, _positive_at_small_offset)

    rate, slope = sp.symbols("A B")
    solution = sp.solve(rate + slope * sigma2, sigma2)[0]  # X = Pσ²
    return _collected(solution.xreplace({rate: in_sharpness(A), slope: in_sharpness(B * form.P)})), edge


def _positive_at_small_offset(arg: sp.Expr) -> sp.Expr:
    """|arg| from √(arg²), where arg is a root of the accumulator: positive at the edge, since P exceeds its value at a = 0."""
    offsets = {s: 0 for s in arg.free_symbols if s.is_positive is None}
    return arg if arg.subs(offsets).is_positive else -arg


def _edge(form: NormalForm, stab: Stability) -> dict[Quantity, sp.Expr]:
    """The accumulator's value at which S = λ*P, if P moves."""
    memory = [a for a in form.accumulators if form.P.has(a) and a not in form.clocks]
    if not memory:
        return {}
    solutions = solve(form.P - S / stab.threshold, memory[0])
    return {memory[0]: simplify(solutions[0])} if solutions else {}


def _collected(expr: sp.Expr) -> sp.Expr:
    numerator, denominator = sp.fraction(opaquely(sp.cancel, expr))
    return sp.factor_terms(sp.expand(numerator)) / sp.factor_terms(sp.expand(denominator))


__all__ = ["Complementarity", "complementarity", "g", "lam", "margin_rate"]
