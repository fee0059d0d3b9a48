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
from theory.declarations import Hyper, Interval, State
from theory.errors import RuleRefused
from theory.normal_form import NormalForm
from theory.symbols import lam, z

_x = sp.Symbol("x", positive=True)
_s = sp.Symbol("s")
_KAPPA, _REAL = Interval.parse("(0, oo)"), Interval.parse("(-oo, oo)")


@dataclass(frozen=True)
class Stability:
    """The characteristic polynomial, the threshold λ* of (T2), and how far the proof that the flip comes first carries.

    ``conditions`` are the Hurwitz determinants, in x = λ/λ* in (0, 1): all positive means stable below λ*.
    ``printed`` are polynomial and threshold in the names of ``NormalForm.held``.
    """

    polynomial: sp.Expr
    threshold: sp.Expr
    conditions: tuple[sp.Expr, ...]
    proved: bool
    clock: dict[sp.Symbol, sp.Expr]
    form: NormalForm
    printed: tuple[sp.Expr, sp.Expr]

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
    (transfer, *held), clock = without_clock(form.update, form.held_transfer, *form.held.values())
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
    domains: dict[sp.Symbol, Hyper | State] = {s: form.update.rule.hyper[n] for n, s in form.update.hyper.items()}
    domains |= {form.update.old(n): state for n, state in form.update.states.items()}
    domains |= {k: Hyper(_KAPPA if is_positive(e, domains) else _REAL) for k, e in zip(form.held, held, strict=True)}
    clock |= {k: e for k, e in form.held.items() if transfer.has(k)}
    proved = all(is_positive(c, domains) for c in conditions)
    elapsed = {u: e for u, e in clock.items() if u not in form.held}
    printed = (sp.powsimp(polynomial.xreplace(elapsed)), sp.powsimp(threshold.xreplace(elapsed)))
    in_full = [e.xreplace(form.held) for e in printed]
    found = Stability(in_full[0], in_full[1], conditions, proved, clock, form, printed)
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


def is_positive(expr: sp.Expr, domains: Mapping[sp.Symbol, Hyper | State]) -> bool:
    """Whether an expression is provably positive for x in (0, 1) and all hyperparameters and clocks in their domains.

    Each variable is replaced by one in (0, ∞): r/(1 + r) in (0, 1), 1/(1 + r) for the elapsed decay b^(t − 1), 1 + r for the step
    counter. Factors whose coefficients then have one sign keep theirs, and a sample gives the sign of the product.

    Args:
        expr: rational in x, the hyperparameters and the clocks.
        domains: of hyperparameters and clocks; what else it contains is x or an elapsed decay.

    Returns:
        True if proved; False if this argument does not decide it.
    """
    if expr.is_positive:
        return True
    numerator, denominator = sp.fraction(sp.factor(expr))
    symbols = sorted(expr.free_symbols, key=str)
    kinds = {s: _range(s, domains) for s in symbols}
    if None in kinds.values() or not (expr.is_polynomial(*symbols) or expr.is_rational_function(*symbols)):
        return False
    factors = [f for part in (numerator, denominator) for f in sp.Mul.make_args(part)]
    bases = [f.base if f.is_Pow and f.exp.is_Integer else f for f in factors]
    if not (all(_one_sign(f, kinds) for f in bases) or _one_sign(sp.Mul(numerator, denominator), kinds)):
        return False
    inside = {s: sp.Integer(2) if kind in {"counter", "positive"} else sp.Rational(1, 2) for s, kind in kinds.items()}
    return bool(expr.subs(inside) > 0)


def _range(symbol: sp.Symbol, domains: Mapping[sp.Symbol, Hyper | State]) -> str | None:
    """Where a variable lies, as `_one_sign` distinguishes it; None where that proves nothing."""
    declared = domains.get(symbol)
    if declared is None:
        return "unit" if symbol == _x else "elapsed"
    if isinstance(declared, State) and declared.counter:
        return "counter"
    if declared.domain is not None and (declared.domain.lower, declared.domain.upper) == (0, 1):
        return "unit"
    return "positive" if symbol.is_nonnegative or declared.domain == _KAPPA else None


def _one_sign(expr: sp.Expr, kinds: Mapping[sp.Symbol, str | None]) -> bool:
    """Whether a polynomial, in variables of (0, ∞) that run through the ranges, has coefficients of one sign only."""
    for symbol in sorted(expr.free_symbols, key=str):
        r, coefficients = sp.Dummy(symbol.name, positive=True), sp.Poly(expr, symbol).all_coeffs()
        over, under = {
            "unit": (r, 1 + r),
            "elapsed": (sp.S.One, 1 + r),
            "counter": (1 + r, sp.S.One),
            "positive": (r, sp.S.One),
        }[kinds[symbol] or ""]
        degree = len(coefficients) - 1
        terms = [c * over ** (degree - k) * under**k for k, c in enumerate(coefficients)]
        expr = sp.expand(sp.Add(*terms))
    if not expr.free_symbols:
        return bool(expr != 0)
    coefficients = sp.Poly(expr, *expr.free_symbols).coeffs()
    return all(c.is_positive for c in coefficients) or all(c.is_negative for c in coefficients)


def _first_roots(condition: sp.Expr) -> list[sp.Expr]:
    """The points of (0, 1) at which a condition stops being positive, lowest first (0 if it never is)."""
    numerator = sp.Poly(sp.numer(sp.together(condition)), _x) if condition.has(_x) else None
    if numerator is None:
        return [] if condition > 0 else [sp.S.Zero]
    inside = [r for r in sp.real_roots(numerator) if 0 < r < 1]
    if inside:
        return [min(inside)]
    return [] if condition.subs(_x, sp.Rational(1, 2)) > 0 else [sp.S.Zero]
