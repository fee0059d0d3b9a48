"""λ* against the table of THEORY section 2, and against a spectral radius computed without any theory."""

from functools import cache

import numpy as np
import pytest
import sympy as sp

from tests.theory import rules
from theory import RuleRefused
from theory import derive as derive_afresh
from theory.symbols import lam, z


@cache
def derived(name):
    return derive_afresh(getattr(rules, name))


def derive(rule):
    return derived(rule.name)


VALUES = {
    "heavy_ball": ({"beta": sp.Rational(9, 10)}, sp.Integer(38)),
    "ema_heavy_ball": ({"beta": sp.Rational(9, 10)}, sp.Integer(38)),
    "nesterov": ({"beta": sp.Rational(9, 10)}, sp.Rational(95, 7)),
    "quasi_hyperbolic": ({"beta": sp.Rational(9, 10), "weight": sp.Rational(7, 10)}, sp.Rational(95, 16)),
    "adabelief": ({"beta1": sp.Rational(9, 10)}, sp.Integer(38)),
}


def at(d, expr, values):
    return expr.subs({d.rule_symbol(name): v for name, v in values.items()})


@pytest.mark.parametrize("name", VALUES)
def test_threshold(name):
    values, expected = VALUES[name]
    d = derive(getattr(rules, name))
    assert at(d, d.threshold, values) == expected
    d.certify({k: float(v) for k, v in values.items()})


@pytest.mark.parametrize("name", VALUES)
def test_characteristic_roots_cross_at_the_threshold(name):
    values, expected = VALUES[name]
    d = derive(getattr(rules, name))

    def radius(factor):
        polynomial = sp.Poly(at(d, d.stability.polynomial, values).subs(lam, factor * expected), z)
        return max(abs(r) for r in np.roots([complex(c) for c in polynomial.all_coeffs()]))

    assert radius(sp.Rational(999, 1000)) < 1 < radius(sp.Rational(1001, 1000))


def spectral_radius(step, sharpness, states):
    """Of the linear map of one step on L = ½ sharpness w², from the rule's own code on numbers."""
    columns = []
    for unit in np.eye(1 + states):
        w, m = step(unit[0], sharpness * unit[0], unit[1:])
        columns.append([w, *m])
    return max(abs(np.linalg.eigvals(np.array(columns).T)))


def heavy_ball(w, g, m):
    m1 = 0.9 * m[0] + g
    return w - m1, [m1]


def ema(w, g, m):
    m1 = 0.9 * m[0] + 0.1 * g
    return w - m1, [m1]


def nesterov(w, g, m):
    m1 = 0.9 * m[0] + g
    return w - (g + 0.9 * m1), [m1]


def quasi_hyperbolic(w, g, m):
    m1 = 0.9 * m[0] + 0.1 * g
    return w - 0.3 * g - 0.7 * m1, [m1]


@pytest.mark.parametrize(
    ("name", "step"), [(f.__name__, f) for f in (heavy_ball, nesterov, quasi_hyperbolic)] + [("ema_heavy_ball", ema)]
)
def test_brute_force_spectral_radius(name, step):
    values, _ = VALUES[name]
    d = derive(getattr(rules, name))
    edge = float(at(d, d.threshold * d.preconditioner, values | {"lr": 1}))  # S = λ*P
    assert spectral_radius(step, 0.9999 * edge, 1) < 1 < spectral_radius(step, 1.0001 * edge, 1)


def test_complex_pair_is_refused():
    d = derive(rules.two_poles)
    with pytest.raises(RuleRefused, match="complex pair") as refusal:
        d.certify({"pole1": 0.4, "pole2": 0.7})
    assert "2.57143" in str(refusal.value)  # λ = 18/7
    assert not d.stability.proved


def test_two_poles_are_certified_where_the_flip_is_first():
    d = derive(rules.two_poles)
    with pytest.raises(RuleRefused, match="complex pair"):
        d.certify({"pole1": 0.1, "pole2": 0.7})
    d.certify({"pole1": 0.01, "pole2": 0.02})


@pytest.mark.parametrize(
    "values", [{"pole1": 0.4, "pole2": 0.7}, {"pole1": 0.01, "pole2": 0.02}, {"pole1": 0.05, "pole2": 0.3}]
)
def test_certificate_agrees_with_roots(values):
    d = derive(rules.two_poles)
    threshold = float(at(d, d.threshold, values))
    polynomial = at(d, d.stability.polynomial, values)
    radii = [
        max(abs(np.roots([float(c) for c in sp.Poly(polynomial.subs(lam, x * threshold), z).all_coeffs()])))
        for x in np.linspace(0.002, 0.998, 200)
    ]
    if max(radii) < 1:
        d.certify(values)
    else:
        with pytest.raises(RuleRefused):
            d.certify(values)
