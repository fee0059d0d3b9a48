"""(T7)–(T9): the flow's accumulators."""

import pytest
import sympy as sp

from tests.theory import rules
from theory import derivable_rules, derive
from theory.calculus import is_zero
from theory.flow import preconditioner_rate
from theory.matrices import Eye, MatrixSqrt
from theory.symbols import HSH, HSH_matrix, T, Total, g, gradS, q, w


def test_ema_relaxes_at_the_rate_of_equal_lag():
    d = derive("rmsprop")
    nu, beta2 = d.rule_symbol("nu"), d.rule_symbol("beta2")
    assert is_zero(d.flow.a_stable[nu] - (1 - beta2) / beta2 * (g**2 - nu))
    assert is_zero(d.flow.a_average(nu) - (1 - beta2) / beta2 * (g**2 + HSH - nu))


@pytest.mark.parametrize("rule", ["rmsprop", rules.corrected])
def test_counter_runs_at_rate_one(rule):
    d = derive(rule)
    assert d.central_flow[d.rule_symbol("t")] == 1


def test_adagrad_sums_the_average():
    d = derive(rules.adagrad)
    nu = d.rule_symbol("nu")
    assert is_zero(d.flow.a_stable[nu] - g**2)
    assert is_zero(d.flow.a_average(nu) - g**2 - HSH)


@pytest.mark.parametrize("rule", ["rmsprop", "scalar_rmsprop", rules.adagrad])
def test_implicit_euler_of_length_one_is_the_discrete_update(rule):
    d = derive(rule)
    nu = d.rule_symbol("nu")
    expected = d.averages.mean[nu]
    # With ȧ linear in a, a⁺ = a + ȧ(a⁺) is one equation for a⁺.
    rate = d.flow.a_stable[nu]
    slope = d.flow.jacobian[list(d.normal_form.accumulators).index(nu), list(d.normal_form.accumulators).index(nu)]
    assert is_zero(nu + rate / (1 - slope) - expected)


def test_parameters_follow_the_averaged_gradient():
    d = derive("gd")
    lr = d.rule_symbol("lr")
    assert is_zero(d.central_flow[w] + lr * (g + q / 2))
    assert is_zero(d.stable_flow[w] + lr * g)
    assert is_zero(d.flow.w_X + lr * T / 2)


def test_momentum_is_eliminated_at_its_mean():
    d = derive(rules.heavy_ball)
    lr, beta = d.rule_symbol("lr"), d.rule_symbol("beta")
    assert is_zero(d.central_flow[w] + lr / (1 - beta) * (g + q / 2))


def test_decoupled_decay():
    d = derive(rules.norm_and_decay)
    assert is_zero(d.normal_form.gamma - d.rule_symbol("lr") * d.rule_symbol("weight_decay"))
    assert is_zero(d.threshold - 2 + d.normal_form.gamma)


@pytest.mark.parametrize("name", derivable_rules())
def test_without_oscillation_the_central_flow_is_the_stable_flow(name):
    d = derive(name)
    for variable, rate in d.central_flow.items():
        assert is_zero(rate.subs({q: 0, HSH: 0, HSH_matrix: 0}) - d.stable_flow[variable])


@pytest.mark.parametrize("name", derivable_rules())
def test_preconditioner_is_positive_and_smooth(name):
    d = derive(name)
    P = d.preconditioner.replace(MatrixSqrt, sp.sqrt).xreplace({Eye(): sp.S.One})  # of an eigenvalue, for a matrix
    values = {s: sp.Rational(1, 3) for s in P.free_symbols}
    assert P.subs(values) > 0
    assert is_zero(preconditioner_rate(d.normal_form, dict.fromkeys(d.normal_form.accumulators, sp.S.Zero)))


def test_variance_of_gradient_descent_is_that_of_self_stabilization():
    d = derive("gd")
    assert is_zero(d.complementarity.variance + 2 * Total(g * gradS) / Total(gradS**2))


def test_no_closed_form_where_the_threshold_depends_on_time():
    d = derive(rules.half_corrected)
    assert d.threshold.has(*d.normal_form.clocks) and not d.normal_form.P.has(*d.normal_form.clocks)
    assert d.complementarity.variance is None


def test_every_option_can_be_derived():
    for name, rule in derivable_rules().items():
        for option in rule.options:
            assert derive(name, **{option: True}).central_flow
