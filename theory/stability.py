r"""Linear stability with frozen accumulators: χ(z; λ) = (z − 1 + γ) + λF(z) = 0 and the threshold λ* (THEORY section 2).

The flip at z = −1 must come first as λ rises from 0. That is a statement about signs: with λ = xλ*, z = (1 + s)/(1 − s),
every Hurwitz determinant of the numerator must stay positive for all x in (0, 1). It is proved for the whole domain of the
hyperparameters where their polynomials have positive coefficients, and otherwise certified at numbers by counting roots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import sympy as sp

from theory.clock import moments, without_clock
from theory.errors import RuleRefused
from theory.normal_form import NormalForm
from theory.rule import Hyper
from theory.symbols import lam, z

_x = sp.Symbol("x", positive=True)
_s = sp.Symbol("s")


@dataclass(frozen=True)
class Stability:
    """The characteristic polynomial, the threshold λ* of (T2), and how far the proof that the flip comes first carries.

    ``conditions`` are the Hurwitz determinants, in x = λ/λ* in (0, 1): all positive means stable below λ*.
    """

    polynomial: sp.Expr
    threshold: sp.Expr
    conditions: tuple[sp.Expr, ...]
    proved: bool
    clock: dict[sp.Symbol, sp.Expr]
    form: NormalForm

    def certify(self, values: Mapping[sp.Symbol, float]) -> None:
        """Certify at given hyperparameters that the flip comes first, at several steps if F depends on time.

        Args:
            values: number for each symbol in the conditions.

        Raises:
            RuleRefused: If an instability that is not a flip comes first; the sentence gives its λ.
        """
        if self.proved:
            return
        exact = {s: sp.nsimplify(v, rational=True) for s, v in values.items()}
        timed = any(c.free_symbols & (set(self.clock) | set(self.form.accumulators)) for c in self.conditions)
        for moment in moments(self.form, exact) if timed else [{}]:
            self._certify(exact | moment)

    def _certify(self, exact: dict[sp.Symbol, sp.Expr]) -> None:
        exact |= {u: sp.nsimplify(sp.N(e.subs(exact)), rational=True) for u, e in self.clock.items()}
        crossings = [x for c in self.conditions for x in _first_roots(c.subs(exact))]
        if crossings:
            first = min(crossings)
            threshold = sp.N(self.threshold.subs(exact))
            raise RuleRefused(
                f"the first instability is not a flip: a complex pair of roots leaves the unit disc at λ = {sp.N(first * threshold, 6)}, below "
                f"the flip at λ* = {sp.N(threshold, 6)}; the period-2 theory does not apply at these hyperparameters."
            )


def stability(form: NormalForm) -> Stability:
    """Characteristic polynomial (T1), threshold (T2) and the proof that the flip comes first.

    Args:
        form: the rule in normal form.

    Returns:
        The stability data, in the updated accumulators if F depends on them.

    Raises:
        RuleRefused: If F(−1) ≤ 0 on the whole domain, or F has poles outside the unit disc or cancels z − 1 + γ.
    """
    (transfer,), clock = without_clock(form.update, form.transfer)
    at_flip = sp.factor(transfer.subs(z, -1))
    if at_flip.is_nonpositive:
        raise RuleRefused(
            f"the rule {form.update.rule.name!r} has no flip: F(−1) = {at_flip} is not positive, so no period-2 oscillation can arise."
        )
    _refuse_sign_change(form, at_flip)
    threshold = sp.simplify((2 - form.gamma) / at_flip)
    numerator, denominator = sp.fraction(sp.together(transfer))
    polynomial = sp.Poly(sp.expand((z - 1 + form.gamma) * denominator + lam * numerator), z).as_expr()
    if sp.gcd(sp.Poly(numerator, z), sp.Poly(denominator, z)).degree() > 0:
        raise RuleRefused(
            f"the rule {form.update.rule.name!r} has a filter with a cancelled pole, {form.transfer}: an internal mode is invisible in F."
        )
    closed = (polynomial.subs(lam, _x * threshold), denominator)
    conditions = tuple(c for p in closed for c in hurwitz_conditions(p))
    domains = {symbol: form.update.rule.hyper[name] for name, symbol in form.update.hyper.items()}
    proved = all(is_positive(c, domains) for c in conditions)
    in_time = [sp.powsimp(e.xreplace(clock)) for e in (polynomial, threshold)]
    found = Stability(in_time[0], in_time[1], conditions, proved, clock, form)
    if all(c.free_symbols <= {_x} for c in conditions):
        found.certify({})  # no hyperparameter can change the outcome
    return found


def _refuse_sign_change(form: NormalForm, at_flip: sp.Expr) -> None:
    """Refuse a threshold that is positive at some hyperparameters and negative at others.

    Raises:
        RuleRefused: If F(−1) has both signs on a grid over the domains.
    """
    domains = {symbol: form.update.rule.hyper[name] for name, symbol in form.update.hyper.items()}
    symbols = sorted(at_flip.free_symbols, key=str)
    if is_positive(at_flip, domains) or not symbols or not set(symbols) <= set(domains):
        return
    value = sp.lambdify(symbols, at_flip, "numpy")
    points = list(product(*(_grid(domains[s]) for s in symbols)))
    bad = next((p for p in points if value(*p) < 0), None)
    good = next((p for p in points if value(*p) > 0), None)
    if bad is None or good is None:
        return
    where = [", ".join(f"{s} = {x:g}" for s, x in zip(symbols, p, strict=True)) for p in (good, bad)]
    raise RuleRefused(
        f"{form.update.place('w')} has a threshold that changes sign over the hyperparameters' domain: F(−1) = {at_flip} is positive at "
        f"{where[0]} and negative at {where[1]}; narrow the domains in @update_rule."
    )


def _grid(declared: Hyper) -> list[float]:
    """Numbers inside a domain, some near its ends."""
    lower, upper = float(declared.domain.lower), float(declared.domain.upper)
    if math.isinf(lower) or math.isinf(upper):
        sizes = (0.01, 0.1, 1.0, 10.0, 100.0)
        start, sign = (lower, 1) if math.isfinite(lower) else (upper if math.isfinite(upper) else 0.0, -1)
        both = (1, -1) if math.isinf(lower) and math.isinf(upper) else (sign,)
        return [start + s * x for s in both for x in sizes]
    return [lower + (upper - lower) * x for x in (0.01, 0.25, 0.5, 0.75, 0.99)]


def hurwitz_conditions(polynomial: sp.Expr) -> tuple[sp.Expr, ...]:
    """Expressions that are all positive iff every root of a polynomial in z lies in |z| < 1.

    Args:
        polynomial: in z, any coefficients.

    Returns:
        Leading coefficient and Hurwitz determinants of the polynomial in s, z = (1 + s)/(1 − s), normalised to a positive value at s = 0.
    """
    degree = sp.degree(polynomial, z)
    if degree <= 0:
        return ()
    coefficients = sp.Poly(polynomial, z).all_coeffs()
    image = sp.Poly(sp.Add(*[c * (1 + _s) ** (degree - i) * (1 - _s) ** i for i, c in enumerate(coefficients)]), _s)
    a = [image.coeff_monomial(_s ** (degree - k)) for k in range(degree + 1)]
    # A polynomial and its negative have the same roots: the sign is fixed by χ(1), the value at s = 0, which cannot vanish
    # for a stable polynomial, so that one sample inside all domains decides it.
    sign = -1 if a[-1].subs(dict.fromkeys(a[-1].free_symbols, sp.Rational(1, 2))).is_negative else 1
    a = [sign * c for c in a]
    hurwitz = sp.Matrix(
        degree, degree, lambda i, j: a[2 * (j + 1) - (i + 1)] if 0 <= 2 * (j + 1) - (i + 1) <= degree else 0
    )
    return tuple(sp.factor(c) for c in [a[0], *(hurwitz[:k, :k].det() for k in range(1, degree + 1))])


def is_positive(expr: sp.Expr, domains: Mapping[sp.Symbol, Hyper]) -> bool:
    """Whether an expression is provably positive for x in (0, 1) and all hyperparameters in their domains.

    Each bounded variable is replaced by a positive one (x = r/(1 + r), and 1/(1 + r) for the elapsed decay b^(t − 1)); positive
    coefficients then prove the claim.

    Args:
        expr: rational in x and the hyperparameters.
        domains: of the hyperparameters.

    Returns:
        True if proved; False if this argument does not decide it.
    """
    if expr.is_positive:
        return True
    mapped = expr
    for i, symbol in enumerate(sorted(expr.free_symbols, key=str)):
        r = sp.Symbol(f"r{i}", positive=True)
        domain = domains[symbol].domain if symbol in domains else None
        unit = symbol == _x or (domain is not None and (domain.lower, domain.upper) == (0, 1))
        elapsed = domain is None and symbol != _x
        mapped = mapped.subs(symbol, 1 / (1 + r) if elapsed else r / (1 + r) if unit else r)
    numerator, denominator = sp.fraction(sp.cancel(sp.together(mapped)))
    return (
        all(_positive_coefficients(p) or _positive_coefficients(-p) for p in (numerator, denominator))
        and not sp.cancel(mapped).is_negative
        and _sample(mapped) > 0
    )


def _positive_coefficients(expr: sp.Expr) -> bool:
    if not expr.free_symbols:
        return bool(expr > 0)
    try:
        return all(c.is_positive for c in sp.Poly(sp.expand(expr), *expr.free_symbols).coeffs())
    except sp.PolynomialError:
        return False


def _sample(expr: sp.Expr) -> sp.Expr:
    return expr.subs(dict.fromkeys(expr.free_symbols, sp.S.One))


def _first_roots(condition: sp.Expr) -> list[sp.Expr]:
    """The points of (0, 1) at which a condition stops being positive, lowest first (0 if it never is)."""
    numerator = sp.Poly(sp.numer(sp.together(condition)), _x) if condition.has(_x) else None
    if numerator is None:
        return [] if condition > 0 else [sp.S.Zero]
    inside = [r for r in sp.real_roots(numerator) if 0 < r < 1]
    if inside:
        return [min(inside)]
    return [] if condition.subs(_x, sp.Rational(1, 2)) > 0 else [sp.S.Zero]
