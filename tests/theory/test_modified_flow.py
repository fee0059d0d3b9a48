"""(T15) and its published special cases; the ripple conditions of section 2."""

import pytest
import sympy as sp

from theory import derivable_rules, derive
from theory.calculus import is_zero
from theory.symbols import g

EMA = dict(ema=True)


def penalty_of_gradient_norm(d):
    """Factor of ‖∇L‖²: the penalty is measured in P⁻¹."""
    return sp.factor(d.modified_flow.penalty / d.preconditioner)


def test_gradient_descent_is_implicit_gradient_regularisation():
    """Barrett, Dherin 2021: L + (η/4)‖∇L‖²."""
    d = derive("gd")
    assert is_zero(penalty_of_gradient_norm(d) - d.rule_symbol("lr") / 4)


def test_heavy_ball_has_its_published_penalty():
    """Ghosh et al. 2023: (η/4)(1 + β)/(1 − β) in EMA form, and η/(1 − β) for η otherwise."""
    d = derive("heavy_ball", **EMA)
    lr, beta = d.rule_symbol("lr"), d.rule_symbol("momentum")
    expected = lr / 4 * (1 + beta) / (1 - beta)
    assert is_zero(penalty_of_gradient_norm(d) - expected)
    plain = derive("heavy_ball")
    scaled = expected.subs(lr, lr / (1 - beta))
    assert is_zero(penalty_of_gradient_norm(plain).subs(plain.rule_symbol("dampening"), 0) - scaled)


@pytest.mark.parametrize("name", derivable_rules())
def test_slow_root_is_the_modified_flow(name):
    assert all(derive(name).modified_flow.checks.values())


def test_ripple_of_rmsprop_and_adam():
    """((1 − β₂)/(1 + β₂)) g²/ν, relative to F(−1), at ε = 0 (THEORY section 2)."""
    for name in ("rmsprop", "adam"):
        d = derive(name)
        beta2, nu = d.rule_symbol("beta2"), d.rule_symbol("nu")
        ripple = d.limit(d.ripple.threshold).subs(d.rule_symbol("eps"), 0)
        flip = d.limit(d.filter.subs(sp.Symbol("z"), -1))
        assert is_zero(ripple - (1 - beta2) / (1 + beta2) * g**2 / nu / flip)


def test_ripple_shifts_the_threshold_of_adam():
    """Adam at β₁ = 0.9, β₂ = 0.95 and g²/ν = 0.6 has 53.7, not 38 (THEORY section 2)."""
    d = derive("adam")
    values = {d.rule_symbol(k): v for k, v in dict(beta1="9/10", beta2="19/20", eps=0, nu=1).items()}
    values = {s: sp.Rational(v) for s, v in values.items()}
    ripple = d.limit(d.ripple.threshold).subs(values).subs(g**2, sp.Rational(6, 10))
    assert float(d.limit(d.threshold).subs(values) / (1 - ripple)) == pytest.approx(53.7, abs=0.05)


def test_constant_preconditioner_has_no_ripple():
    assert derive("nesterov").ripple.threshold == 0
