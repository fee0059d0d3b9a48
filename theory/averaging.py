r"""Time averages over the oscillation (THEORY section 3), and what a rule's accumulators average to.

The oscillation is a flip: δ changes sign each step, so the local time average of any function is the mean of its values at
±δ. A gradient oscillates by y = Hδ about its mean ∇L + ½q, q = ∇⟨H,Σ⟩; a filter's output by G(−1)y about G(1) times that.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.calculus import directional, displaced, is_zero, second
from theory.matrices import Outer
from theory.normal_form import NormalForm
from theory.symbols import HSH, BlockTotal, HSH_matrix, Quantity, Total, epsilon, g, q, y, y2


@dataclass(frozen=True)
class Averages:
    """Averaged accumulator maps f̄ = mean + ∑ X_kl · oscillation(y_k, y_l), y_k = Hu_k, with the option's cross term.

    ``mean[a]`` is f at the mean gradient ∇L and the mean filter states; ``oscillation[a]`` is ½D²f[y, y'], bilinear in the modes'
    gradient oscillations; ``cross[a]`` is Df[½q], of the same order in δ, dropped in the published flows and kept as an option.
    ``settle`` puts the filter states at their value for a constant gradient, where the flow eliminates them.
    """

    mean: dict[Quantity, sp.Expr]
    oscillation: dict[Quantity, sp.Expr]
    cross: dict[Quantity, sp.Expr]
    settle: dict[Quantity, sp.Expr]

    def variance_form(self, a: Quantity) -> sp.Expr:
        r"""The oscillation's contribution as it is printed, y_i y_i averaged to (HΣH)_ii."""
        return as_variance(self.oscillation[a].xreplace(self.settle))


def average(form: NormalForm) -> Averages:
    """Average each accumulator's map over the oscillation.

    Args:
        form: the rule in normal form.

    Returns:
        The averaged maps, to second order in δ, checked against the mean over ±δ.
    """
    at_mean, at_flip = form.at_gain(1), form.at_gain(-1)

    def along(direction: sp.Expr) -> dict[Quantity, sp.Expr]:
        return {g: direction} | {m: gain * direction for m, gain in at_flip.items()}

    def mean_along(direction: sp.Expr) -> dict[Quantity, sp.Expr]:
        return {g: direction} | {m: gain * direction for m, gain in at_mean.items()}

    settle = {m: gain * g for m, gain in at_mean.items()}
    mean, oscillation, cross = {}, {}, {}
    for a, f in form.accumulators.items():
        mean[a] = f
        oscillation[a] = second(f, along(y), along(y2)) / 2
        cross[a] = directional(f, mean_along(q / 2))
        brute = _mean_over_signs(f, along(y), mean_along(q / 2))
        assert is_zero(brute - oscillation[a].subs(y2, y) - cross[a]), f"average of {a} disagrees with the mean over ±δ"
    return Averages(mean, oscillation, cross, settle)


def _mean_over_signs(f: sp.Expr, flip: dict[Quantity, sp.Expr], drift: dict[Quantity, sp.Expr]) -> sp.Expr:
    """Second-order coefficient in ε of ½[f(+εy + ε²·drift) + f(−εy + ε²·drift)], by brute force."""
    moved = [displaced(f, {s: sign * flip[s] + epsilon * drift[s] for s in flip}) for sign in (1, -1)]
    return sp.expand(sp.diff(sp.Add(*moved) / 2, epsilon, 2).subs(epsilon, 0).doit() / 2)


def as_variance(expr: sp.Expr) -> sp.Expr:
    """Write y·y' and y² of one coordinate as (HΣH)_ii, and yyᵀ as HΣH."""
    return sp.expand(expr.subs(y2, y)).subs({y**2: HSH, Outer(y, y): HSH_matrix})


def published_averages() -> dict[str, bool]:
    r"""Check (T4)–(T6) on the general quartic in one dimension, where (T4) is exact and the others hold to O(δ⁴).

    Returns:
        Claim → whether SymPy finds the difference zero.
    """
    x, d = sp.symbols("x delta", real=True)
    L = sp.Add(*[sp.Symbol(f"c{k}") * x**k for k in range(5)])
    dL, H, dH = (sp.diff(L, x, k) for k in (1, 2, 3))

    def mean(f: sp.Expr) -> sp.Expr:
        return sp.expand((f.subs(x, x + d) + f.subs(x, x - d)) / 2)

    def order4(f: sp.Expr) -> bool:
        return all(sp.expand(f).coeff(d, k) == 0 for k in range(4))

    average_gradient = dL + dH * d**2 / 2
    return {
        "(T4) E[∇L] = ∇L + ½∇⟨H,Σ⟩, exact on quartics": is_zero(mean(dL) - average_gradient),
        "(T5) E[∇L∇Lᵀ] = E[∇L]E[∇L]ᵀ + HΣH + O(δ⁴)": order4(mean(dL**2) - average_gradient**2 - H**2 * d**2),
        "(T6) E[L] = L + ½⟨H,Σ⟩ + O(δ⁴)": order4(mean(L) - L - H * d**2 / 2),
    }


__all__ = ["Averages", "BlockTotal", "Total", "as_variance", "average", "published_averages"]
