r"""The stable flow corrected to second order, for any filter and P frozen (T15).

On a mode the rule has one slow root z = e^s of χ(z; λ) = 0, and s(λ) = −λ(1 + lag·λ) + O(λ³): gradient flow on the loss with a
penalty ½·lag·‖∇L‖²_{P⁻¹}. It converges for λ well below 1; it says nothing of the critical modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.calculus import is_zero, rationally
from theory.normal_form import NormalForm
from theory.symbols import lam, z

_s, _a, _b = sp.symbols("s a b")


@dataclass(frozen=True)
class ModifiedFlow:
    """``penalty`` is the factor of ‖∇L‖²_{P⁻¹}, ½·lag; ``checks`` what SymPy verified."""

    penalty: sp.Expr
    checks: dict[str, bool]


def modified_flow(form: NormalForm) -> ModifiedFlow:
    """Derive (T15) from the slow root of the characteristic equation.

    Args:
        form: the rule in normal form.

    Returns:
        The penalty, with the root's expansion verified for γ = 0.
    """
    slope = rationally(sp.factor, sp.diff(form.held_transfer, z).subs(z, 1))
    # χ(e^s) to second order in (s, λ), with F(e^s) = 1 + F′(1)s: the slow root s = aλ + bλ².
    root = _a * lam + _b * lam**2
    residual = sp.expand(root + root**2 / 2 + lam * (1 + slope * root))
    first, second = residual.coeff(lam, 1), residual.coeff(lam, 2)
    a = sp.solve(first, _a)[0]
    b = sp.solve(second.subs(_a, a), _b)[0]
    claim = "the slow root of χ is −λ(1 + lag·λ) + O(λ³) at γ = 0"
    return ModifiedFlow(form.lag / 2, {claim: bool(a == -1) and is_zero(rationally(sp.factor, b + form.held_lag))})
