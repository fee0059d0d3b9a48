"""A smooth sign g/√(g² + ε²): with a moving average of g² in the root it has a normal form, of the present gradient alone it has none."""

import pytest
import sympy as sp

from theory import RuleRefused, available_rules, derive
from theory.calculus import is_zero
from theory.symbols import P_diagonal, g, w

MEMORYLESS = available_rules()["memoryless_sign"]


def memoryless_step():
    """φ(g), from the rule as it is declared."""
    update = MEMORYLESS.record()
    return w - update.equations[-1].expr, update.hyper


def test_with_memory_it_becomes_the_memoryless_step_as_the_decay_falls_to_zero():
    update, (phi, _) = derive("smoothed_sign").update, memoryless_step()
    values = {update.hyper["beta2"]: 0}
    nu = update.equations[0].expr.subs(values)
    step = update.equations[1].expr.xreplace({update.new("nu"): nu})
    assert is_zero(step - w + phi)


def measured_edge(phi, mean):
    """The largest sharpness S at which x ← x − [φ(ḡ + Sx) − φ(ḡ)] dies out, by bisection."""
    step = sp.lambdify(g, phi, "math")

    def grows(sharpness):
        x = 1e-7
        for _ in range(400):
            x -= step(mean + sharpness * x) - step(mean)
        return abs(x) > 1e-7

    low, high = 0.01, 1e3
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if grows(middle) else (middle, high)
    return low


@pytest.mark.parametrize("mean", [0.0, 0.7, 2.0])
def test_without_memory_the_edge_is_that_of_the_slope_not_of_the_gain(mean):
    """Where ḡ ≠ 0, one P = g/φ(g) would put the edge elsewhere, and the mean step is off at second order."""
    phi, hyper = memoryless_step()
    phi = phi.subs({hyper["lr"]: 1, hyper["eps"]: 1})
    slope, gain = sp.diff(phi, g).subs(g, mean), 1 / sp.sqrt(mean**2 + 1)
    assert measured_edge(phi, mean) == pytest.approx(float(2 / slope), rel=1e-5)
    assert (abs(float(gain / slope) - 1) > 0.4) == (mean > 0)


def test_the_reason_names_slope_and_gain():
    phi, _ = memoryless_step()
    with pytest.raises(RuleRefused) as refusal:
        derive(MEMORYLESS)
    assert str(sp.simplify(sp.diff(phi, g))) in str(refusal.value)
    assert str(sp.simplify(phi / g)) in str(refusal.value)


def test_ripple_of_the_average_leads_to_the_slope():
    """At β₂ = 0 the ripple condition, λ* = 2/(1 − r), turns 2P into 2/φ′: what is refused is what the condition excludes."""
    d, (phi, _) = derive("smoothed_sign"), memoryless_step()
    there = {d.rule_symbol("beta2"): 0, d.rule_symbol("nu"): g**2}
    edge = (d.threshold * d.preconditioner / (1 - d.ripple.threshold)).subs(there)
    assert is_zero(edge - 2 / sp.diff(phi, g))


def test_fixed_point_is_that_of_rmsprop_with_the_offset_beside_the_gradient():
    d = derive("smoothed_sign")
    lr, eps = d.rule_symbol("lr"), d.rule_symbol("eps")
    assert d.fixed_point.convex
    assert is_zero(d.fixed_point.objective - lr**2 * P_diagonal - (g**2 + eps**2) / P_diagonal)
    assert all(d.fixed_point.checks.values())
