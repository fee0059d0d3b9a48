import pytest
import sympy as sp

from tests.theory import rules
from theory import derivable_rules, derive
from theory.averaging import published_averages
from theory.calculus import is_zero
from theory.symbols import HSH, g, q, y, y2, z


@pytest.mark.parametrize("claim", published_averages())
def test_published_averages(claim):
    assert published_averages()[claim]


def test_second_moment_averages_to_mean_square_plus_variance():
    d = derive("rmsprop")
    nu, beta2 = d.rule_symbol("nu"), d.rule_symbol("beta2")
    assert is_zero(d.averages.mean[nu] - beta2 * nu - (1 - beta2) * g**2)
    assert is_zero(d.averages.oscillation[nu] - (1 - beta2) * y * y2)
    assert is_zero(d.averages.variance_form(nu) - (1 - beta2) * HSH)
    assert is_zero(d.averages.cross[nu] - (1 - beta2) * g * q)


def test_gradient_less_momentum_oscillates_by_one_less_the_gain():
    d = derive(rules.adabelief)
    nu, beta1, beta2 = (d.rule_symbol(n) for n in ("nu", "beta1", "beta2"))
    gain = (1 - beta1) / (1 + beta1)  # |G(−1)| of an EMA; G(−1) is positive since z/(z − β₁) = 1/(1 + β₁) at −1
    assert is_zero(d.normal_form.gains[d.rule_symbol("m")].subs(z, -1) - gain)
    assert is_zero(d.averages.oscillation[nu] - (1 - beta2) * (1 - gain) ** 2 * y * y2)
    assert is_zero(d.averages.mean[nu].xreplace(d.averages.settle) - beta2 * nu)  # g − m = 0 where m has settled


@pytest.mark.parametrize("name", derivable_rules())
def test_average_is_the_mean_over_both_signs(name):
    """Numbers: ½[f(g + y) + f(g − y)] against mean + oscillation, exact since the maps are quadratic in g."""
    d = derive(name)
    for a, f in d.normal_form.accumulators.items():
        if d.normal_form.filters:
            continue
        both = sum(f.subs(g, g + sign * y) for sign in (1, -1)) / 2
        assert is_zero(sp.expand(both - d.averages.mean[a] - d.averages.oscillation[a].subs(y2, y)))
