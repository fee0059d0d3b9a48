r"""The stability threshold in the forms in which papers quote it, and its value at numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy as sp

from theory.calculus import simplify
from theory.clock import moments
from theory.symbols import Quantity, Shape

if TYPE_CHECKING:
    from theory.derivation import Derivation

# The number put in for a hyperparameter in [0, 1) that declares no default: the usual decay of a momentum.
DECAY = 0.9
# Steps at which a threshold that depends on the step counter is shown.
STEPS = (1, 2, 5, 10, 20, 50, 5000, 20000)
EARLY, RESOLVED = 50, 1e-3
"""Later steps are shown where the threshold still differs by this fraction from its limit."""


@dataclass(frozen=True)
class ThresholdForm:
    """One form of the threshold: what it bounds, how that is written (LaTeX), and the bound."""

    meaning: str
    left: str
    expr: sp.Expr


def threshold_forms(d: Derivation) -> Iterator[ThresholdForm]:
    """Yield the bound on λ, on the sharpness, and on η times the sharpness, as far as the preconditioner allows.

    Args:
        d: the derivation.

    Yields:
        The forms, λ* itself first.
    """
    P, lr = d.preconditioner, d.update.hyper.get("lr")
    yield ThresholdForm("eigenvalues λ of P⁻¹H", r"\lambda^{*}", positive_denominator(d.threshold))
    lasting = simplify(d.limit(d.threshold))
    if d.threshold.has(*d.normal_form.accumulators):
        yield ThresholdForm("λ after a long time", r"\lambda^{*}_{\infty}", positive_denominator(lasting))
    if d.normal_form.shape is Shape.SCALAR:
        yield ThresholdForm("sharpness", r"\lambda^{*}P", positive_denominator(simplify(lasting * P)))
    scaled = None if lr is None else simplify(P * lr)
    if scaled is None or scaled.has(lr):
        return
    if scaled.has(*d.normal_form.accumulators):
        yield ThresholdForm("eigenvalues of (ηP)⁻¹H", r"\lambda^{*}/\eta", positive_denominator(simplify(lasting / lr)))
    elif d.normal_form.shape is Shape.SCALAR:
        yield ThresholdForm(
            "η times the sharpness", r"\lambda^{*}P\eta", positive_denominator(simplify(lasting * scaled))
        )


def positive_denominator(expr: sp.Expr) -> sp.Expr:
    """Return (2 + 2β)/(1 − β) for −2(β + 1)/(β − 1): the denominator positive for decays in (0, 1), and z > 1."""
    numerator, denominator = sp.fraction(sp.factor(expr))
    sample = {s: 3 if str(s) == "z" else sp.Rational(1, 3) for s in denominator.free_symbols}
    if denominator.is_number or not denominator.subs(sample).is_negative:
        return expr
    return sp.expand(-numerator) / sp.expand(-denominator)


def numbers_used(d: Derivation) -> dict[str, float]:
    """Numbers put in for the hyperparameters in the thresholds: their defaults, and `DECAY` for a decay without one."""
    shown = set().union(*(form.expr.free_symbols for form in threshold_forms(d)))
    return {n: v for n, v in _numbers(d).items() if d.update.hyper[n] in shown}


def at_numbers(d: Derivation, forms: list[ThresholdForm]) -> Iterator[ThresholdForm]:
    """Yield the forms with `numbers_used` put in; λ* in some steps, where it depends on clocks alone."""
    values = {d.update.hyper[n]: sp.nsimplify(v, rational=True) for n, v in _numbers(d).items()}
    for form in forms:
        expr = form.expr.subs(values)
        if expr.free_symbols and expr.free_symbols <= set(d.normal_form.clocks):
            yield from _in_steps(d, form, expr, values)
        else:
            yield ThresholdForm(form.meaning, form.left, sp.N(expr, 6) if expr.is_number else expr)


def _in_steps(
    d: Derivation, form: ThresholdForm, expr: sp.Expr, values: dict[Quantity, sp.Expr]
) -> Iterator[ThresholdForm]:
    """Yield the threshold in early steps, and in late ones where a slow schedule has not settled by then.

    Yields:
        The form at each step.
    """
    settled = d.limit(form.expr).subs(values)
    for t, now in zip(STEPS, moments(d.normal_form, values, STEPS), strict=True):
        value = expr.subs(now) if t <= EARLY else sp.N(expr.subs({c: sp.N(v) for c, v in now.items()}))
        if t <= EARLY or not settled.is_number or abs(sp.N(value / settled) - 1) > RESOLVED:
            yield ThresholdForm(f"λ in step {t}", form.left, value)


def _numbers(d: Derivation) -> dict[str, float]:
    """Numbers for all hyperparameters but the learning rate, which stays a symbol."""
    chosen = {}
    for name in d.update.hyper:
        declared = d.rule.hyper[name]
        decay = declared.domain.lower == 0 and declared.domain.upper == 1
        if name != "lr" and (declared.default is not None or decay):
            chosen[name] = DECAY if declared.default is None else declared.default
    return chosen
