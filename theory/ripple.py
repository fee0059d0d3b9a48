r"""Ripple of the accumulators: the first-order oscillation that the averages drop, and when it is negligible (THEORY section 2).

Where ∇L ≠ 0 an accumulator oscillates at first order, δa = Df[y]/(1 + ∂_a f) for a flip, since δa changes sign each step. P⁻¹ oscillates with
it: against the mean gradient this shifts the threshold, against the gradient's own oscillation it drifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.averaging import Averages
from theory.calculus import directional, rationally
from theory.flow import collect, local_derivative
from theory.matrices import applied, divided
from theory.normal_form import NormalForm
from theory.symbols import Shape, g, y, y2, z


@dataclass(frozen=True)
class Ripple:
    """Both conditions of section 2, relative sizes that must be ≪ 1 per coordinate; 0 for a constant P.

    ``threshold`` is the relative change of F(−1): with it, λ* = 2/(F(−1)(1 − threshold)) for one coordinate. ``drift`` is the relative change of
    the mean step, with y² the variance (HΣH)_ii of the gradient.

    For a matrix both are vectors: ``threshold`` what the oscillation y of the gradient loses, ``drift`` what the mean gradient
    loses by a pair of oscillations y, y'; they must be small against y and ∇L.
    """

    threshold: sp.Expr
    drift: sp.Expr


def ripple(form: NormalForm, averages: Averages) -> Ripple:
    """Derive the relative sizes of what the averages drop.

    Args:
        form: the rule in normal form.
        averages: of its accumulators.

    Returns:
        The two conditions.
    """
    at_flip = rationally(sp.factor, form.held_transfer.subs(z, -1)).xreplace(form.held)
    if form.shape is Shape.MATRIX:
        return Ripple(collect(_lost(form, averages, g) / at_flip), collect(_lost(form, averages, y2) * at_flip))
    slope, swing = sp.S.Zero, sp.S.Zero

    def flip(size: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
        return {g: size} | {m: gain * size for m, gain in form.at_gain(-1).items()}

    for a, f in averages.mean.items():
        if not form.P.has(a) or not f.has(g):
            continue
        memory = 1 + local_derivative(f, a, form.update.rule.name)
        first = directional(f, flip(g)).xreplace(averages.settle)
        slope += directional(form.P, {a: first / memory}) / form.P
        # δP against the gradient's own swing: quadratic in it, as in the mean gradient where y = g.
        swing += directional(form.P, {a: first.xreplace({g: y}) / memory}) / form.P
    return Ripple(collect(slope / at_flip), collect(swing * at_flip))


def _lost(form: NormalForm, averages: Averages, gradient: sp.Expr) -> sp.Expr:
    """δP P⁻¹·gradient, by which (P + δP)⁻¹ of it falls short of P⁻¹ of it, with δP the first-order oscillation of P along y."""
    along = {g: y} | {m: gain * y for m, gain in form.at_gain(-1).items()}
    oscillating = {
        a: directional(f, along).xreplace(averages.settle) / (1 + local_derivative(f, a, form.update.rule.name))
        for a, f in averages.mean.items()
        if form.P.has(a)
    }
    return applied(directional(form.P, oscillating), divided(gradient, form.P))
