r"""Modulation of the oscillation about its average, and why slow sharpening is needed (★; for the loop without momentum: [SS]).

About the central flow a mode's amplitude (1 + a)√X and its relative excess x = λ/λ* − 1 form a loop. Amplitude, the flip shifted to 0:
a = G_a x, G_a(s) = −λ*F(−e^s)/χ(−e^s; λ*). Excess: where sharpening would raise λ by α per step, the oscillation takes 2αa back
through the filter, x = −2αG_x a, G_x(s) = F(e^s)/(e^s − 1). So modulations go as e^{st} with

    1 + 2α G_a(s) G_x(s) = 0,   G_a = (Γ/s)(1 − τs + …),  G_x = (1/s)(1 − lag·s + …):

they turn at ω = √(2αΓ) per step and *grow*, by e^{πϱ} in each turn, ϱ = (lag + τ)ω. The averages see them as small only if ϱ ≪ 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.calculus import rationally
from theory.normal_form import NormalForm
from theory.symbols import z


@dataclass(frozen=True)
class Modulation:
    """``rate`` Γ: growth of a critical amplitude per step and unit of x. ``delay`` τ, in steps: of that response.

    ``printed`` are both in the names of ``NormalForm.held``.
    """

    rate: sp.Expr
    delay: sp.Expr
    printed: tuple[sp.Expr, sp.Expr]


def modulation(form: NormalForm) -> Modulation:
    """Derive Γ and τ from the root of χ near −1.

    Args:
        form: the rule in normal form, with a flip.

    Returns:
        The two numbers, as expressions in hyperparameters and updated accumulators.
    """
    at, slope, bend = (rationally(sp.factor, sp.diff(form.held_transfer, z, n).subs(z, -1)) for n in (0, 1, 2))
    threshold = (2 - form.gamma) / at
    # −χ(−e^s; λ*) in powers of u = e^s − 1 = s + s²/2: u(1 + λ*F′) − λ*F″u²/2.
    pull = 1 + threshold * slope
    rate = (2 - form.gamma) / pull
    delay = sp.Rational(1, 2) + slope / at - threshold * bend / (2 * pull)
    printed = (rationally(sp.factor, rate), rationally(sp.factor, delay))
    return Modulation(printed[0].xreplace(form.held), printed[1].xreplace(form.held), printed)
