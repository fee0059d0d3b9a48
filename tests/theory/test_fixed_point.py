"""(T13), (T14): the preconditioner's fixed point is derived from the rule's own flow, checked, or declined in a sentence."""

import pytest
import sympy as sp

from tests.theory import rules
from tests.theory.own_rule import own_rule
from theory import derivable_rules, derive, hyper, per_block, per_parameter, sqrt, update_rule
from theory.calculus import is_zero
from theory.declarations import counter, option, scalar
from theory.fixed_point import fixed_point
from theory.operations import block_mean, mean, norm2
from theory.symbols import BlockTotal, S, Shape, Sigma, Total, g

LR, BETA, EPS = dict(lr=hyper("(0, oo)")), dict(beta2=hyper("[0, 1)")), dict(eps=hyper("[0, oo)"))
NU = dict(nu=per_parameter(nonnegative=True))


@update_rule(**LR, **BETA, **EPS, **NU)
def rms(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g / (sqrt(s.nu) + s.eps)


@update_rule(**LR, **BETA, **EPS, nu=scalar(nonnegative=True))
def scalar_rms(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * norm2(s.g)
    s.w = s.w - s.lr * s.g / (sqrt(s.nu) + s.eps)


@update_rule(
    **LR, **BETA, **EPS, **NU, beta1=hyper("[0, 1)"), m=per_parameter(), t=counter(), bias_correction=option(False)
)
def moments(s):
    s.t = s.t + 1
    s.m = s.beta1 * s.m + (1 - s.beta1) * s.g
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    m = s.m / (1 - s.beta1**s.t) if s.bias_correction else s.m
    nu = s.nu / (1 - s.beta2**s.t) if s.bias_correction else s.nu
    s.w = s.w - s.lr * m / (sqrt(nu) + s.eps)


@update_rule(**LR, **EPS, nu=scalar(nonnegative=True))
def summed_norm(s):
    s.nu = s.nu + norm2(s.g)
    s.w = s.w - s.lr * s.g / (sqrt(s.nu) + s.eps)


@update_rule(**LR, **BETA, **NU)
def linear(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g / s.nu


@update_rule(**LR, **BETA, **EPS, nu=per_block(nonnegative=True))
def one_mean_per_block(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * block_mean(s.g**2)
    s.w = s.w - s.lr * s.g / sqrt(s.nu + s.eps)


@update_rule(**LR, **BETA, **NU, mu=per_parameter(nonnegative=True))
def two_accumulators(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.mu = s.beta2 * s.mu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g / (sqrt(s.nu) + s.mu)


@update_rule(**LR, **BETA, **NU)
def fourth_moment(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**4
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


@update_rule(**LR, **BETA, **NU)
def decreasing(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g * sqrt(s.nu)


def of(rule, **choices):
    d = derive(rule, **choices)
    return d, fixed_point(d.normal_form, d.averages, d.flow, d.stability)


def symbols(d):
    return (d.rule_symbol(n) for n in ("lr", "eps"))


def test_rmsprop_with_offset():
    """THEORY section 7: Φ = η²p − 2ηε ln p + (g² − ε²)/p, Φ″ = 2(g² − ε² + ηεp)/p³ on p ≥ ε/η."""
    d, f = of(rms)
    lr, eps = symbols(d)
    p = f.p
    assert (f.status, f.convex, f.threshold) == ("program", True, 2)
    assert is_zero(f.stationary - ((lr * p - eps) ** 2 - g**2 - 4 * p**2 * Sigma))
    assert is_zero(f.inverse - (lr * p - eps) ** 2)
    assert is_zero(f.objective - (lr**2 * p - 2 * lr * eps * sp.log(p) + (g**2 - eps**2) / p))
    assert is_zero(f.objective_prime - ((lr * p - eps) ** 2 - g**2) / p**2)
    assert is_zero(f.convexity - 2 * (g**2 - eps**2 + lr * eps * p) / p**3)
    assert is_zero(f.lower - eps / lr)
    below = f.convexity.subs(g, 0).subs(p, f.lower / 2)
    assert sp.simplify(below).subs({lr: 1, eps: 1}) < 0, "it is not convex below the least value"


def test_without_offset_it_is_the_published_program():
    """[CF]: argmin tr P + ‖∇L‖²_{P⁻¹}/η²."""
    d, f = of(rms)
    lr, eps = symbols(d)
    assert is_zero(f.objective.subs(eps, 0) - lr**2 * (f.p + g**2 / f.p / lr**2))


@pytest.mark.parametrize("corrected", [False, True])
def test_momentum_changes_the_threshold_only(corrected):
    d, f = of(moments, bias_correction=corrected)
    beta1 = d.rule_symbol("beta1")
    _, plain = of(rms)
    assert is_zero(f.threshold - 2 * (1 + beta1) / (1 - beta1))
    for name in ("inverse", "objective", "convexity", "lower"):
        assert is_zero(getattr(f, name) - getattr(plain, name)), name
    assert is_zero(f.stationary - plain.stationary - (4 - f.threshold**2) * f.p**2 * Sigma)
    assert f.convex


def test_an_accumulator_of_deviations_sees_the_oscillation_alone():
    """(g − m)² averages to (1 − G(−1))²(HΣH)_ii, G(−1) = (1 − β₁)/(1 + β₁); its mean part vanishes."""
    d, f = of(rules.adabelief)
    lr, eps = symbols(d)
    beta1 = d.rule_symbol("beta1")
    gain = (1 - (1 - beta1) / (1 + beta1)) ** 2
    assert g not in f.stationary.free_symbols
    assert is_zero(f.stationary - ((lr * f.p - eps) ** 2 - gain * f.threshold**2 * f.p**2 * Sigma))
    assert is_zero(sp.diff(f.objective, f.p) - (lr * f.p - eps) ** 2 / (gain * f.p**2))
    assert f.convex


def test_cube_root_per_block_at_a_held_step_size():
    d, f = of(own_rule)
    lr, eps = symbols(d)
    eta = lr * sp.exp(-d.rule_symbol("t") / 200)
    p = f.p
    assert p.shape is Shape.BLOCK
    assert is_zero(f.stationary - ((eta * p - eps) ** 3 - BlockTotal(g**2) - 4 * p**2 * BlockTotal(Sigma)))
    expected = eta**3 * p**2 / 2 - 3 * eta**2 * eps * p + 3 * eta * eps**2 * sp.log(p) + (eps**3 + BlockTotal(g**2)) / p
    assert is_zero(f.objective - expected)
    assert f.convex
    assert "held at their present value" in f.reason


def test_a_mean_over_a_block_scales_the_objective_by_its_size():
    d, f = of(one_mean_per_block)
    lr, eps = symbols(d)
    n = BlockTotal(sp.S.One)
    assert is_zero(f.stationary * n - (n * (lr**2 * f.p**2 - eps) - BlockTotal(g**2) - 4 * f.p**2 * BlockTotal(Sigma)))
    assert is_zero(f.objective - (n * lr**2 * f.p + (n * eps + BlockTotal(g**2)) / f.p))
    assert is_zero(f.lower - sp.sqrt(eps) / lr)


def test_scalar_rmsprop_has_a_closed_form():
    """P = max(S/λ*, (‖g‖ + ε)/η): at the edge the step is 2/S, whatever η is."""
    d, f = of(scalar_rms)
    lr, eps = symbols(d)
    assert f.status == "scalar"
    edge, free = S / 2, (sp.sqrt(Total(g**2)) + eps) / lr
    assert set(f.solution.args) == {edge, free}
    assert is_zero(f.stationary - ((lr * f.p - eps) ** 2 - Total(g**2) - 4 * f.p**2 * Total(Sigma)))
    assert is_zero(f.stationary.xreplace({f.p: free, Total(Sigma): sp.S.Zero}))
    at_edge = sp.solve(f.stationary.xreplace({f.p: edge, Total(Sigma): (s := sp.Symbol("s"))}), s)[0]
    assert is_zero(at_edge - ((lr * S / 2 - eps) ** 2 - Total(g**2)) / S**2)
    assert (1 / edge) == 2 / S


@pytest.mark.parametrize("rule", [rules.adagrad, summed_norm])
def test_sums_never_settle(rule):
    _, f = of(rule)
    assert f.status == "none"
    assert "no fixed point" in f.reason
    assert f.objective is None


@pytest.mark.parametrize("rule", ["gd", rules.heavy_ball, rules.nesterov])
def test_a_constant_has_nothing_to_settle(rule):
    _, f = of(rule)
    assert f.status == "constant"


def test_a_program_that_is_not_convex_is_called_so():
    """P = ν/η: Φ = η ln p + g²/p, Φ″ = (2g² − ηp)/p³."""
    d, f = of(linear)
    lr = d.rule_symbol("lr")
    assert f.status == "program"
    assert not f.convex
    assert "not convex" in f.domain
    assert "a stationary point" in f.reason
    assert is_zero(f.objective - (lr * sp.log(f.p) + g**2 / f.p))
    assert is_zero(f.convexity - (2 * g**2 - lr * f.p) / f.p**3)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (two_accumulators, "several accumulators"),
        (fourth_moment, "gain of the oscillation"),
        (decreasing, "increasing"),
    ],
)
def test_what_is_not_covered_is_said_in_a_sentence(rule, words):
    _, f = of(rule)
    assert f.status == "uncovered"
    assert words in f.reason
    assert f.reason.endswith(".")
    assert "\n" not in f.reason


@pytest.mark.parametrize(
    "rule", [rms, scalar_rms, rules.adabelief, rules.corrected, rules.norm_and_decay, own_rule, linear]
)
def test_it_solves_the_flow_at_rest(rule):
    """At ψ⁻¹(p) and HΣH = λ*²P²Σ, the printed rate of the accumulator vanishes with (T13), at numbers."""
    d, f = of(rule)
    a = next(a for a in d.normal_form.accumulators if str(a) == "nu")
    rate = d.flow.a_average(a)
    numbers = {s: sp.Rational(k + 2, 9) for k, s in enumerate(sorted(d.update.hyper.values(), key=str))}
    # The reductions and what they sum, as plain numbers; a late step, where bias corrections are 1.
    table = {"HSH": None, "g": sp.Rational(3, 7), "Sigma": sp.Rational(1, 5), "t": 10000, "P": 5}

    def value(expr):
        for r in sorted(expr.atoms(Total, BlockTotal), key=str):
            expr = expr.xreplace({r: r.args[0] if r.args[0].free_symbols else sp.Integer(3)})
        named = {s: table[s.name] for s in expr.free_symbols if s.name in table and table[s.name] is not None}
        return expr.subs(numbers).subs(named)

    variance = value(f.threshold) ** 2 * 25 * table["Sigma"]
    at_rest = value(rate).subs({a: value(f.inverse)})
    at_rest = at_rest.subs({s: variance for s in at_rest.free_symbols if s.name == "HSH"})
    # k·stationary = −rate, with k the accumulator's decay.
    k = -value(sp.diff(sp.expand(rate), a))
    assert abs(sp.N(at_rest + k * value(f.stationary), 30)) < 1e-12 * (1 + abs(sp.N(at_rest)))


def test_every_check_holds_and_objectives_integrate_their_derivatives():
    for rule in (rms, scalar_rms, moments, rules.adabelief, own_rule, one_mean_per_block, linear):
        _, f = of(rule)
        assert f.checks, rule.name
        assert all(f.checks.values()), rule.name
        assert is_zero(sp.diff(f.objective, f.p) - f.objective_prime), rule.name
        assert is_zero(sp.diff(f.objective_prime, f.p) - f.convexity), rule.name


@pytest.mark.parametrize("name", derivable_rules())
def test_registered_rules_get_a_fixed_point_or_a_sentence(name):
    f = derive(name).fixed_point
    assert f.status in {"program", "scalar", "matrix", "none", "constant", "uncovered"}
    assert f.reason
    assert (f.objective is None) == (f.status not in {"program", "scalar", "matrix"})


def test_a_wrong_sign_in_the_rule_is_not_the_same_program():
    @update_rule(**LR, **BETA, **EPS, **NU)
    def wrong(s):
        s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
        s.w = s.w - s.lr * s.g / (sqrt(s.nu) - s.eps)

    _, f = of(wrong)
    _, right = of(rms)
    assert f.status == "uncovered" or not is_zero(f.objective - right.objective)


def test_it_describes_itself_as_a_step():
    d, f = of(rms)
    step = f.step(type(d.steps[0]))
    labels = [label for label, _, _ in step.equations]
    assert labels[0] == "at rest"
    assert "objective" in labels
    assert step.checks == f.checks
    assert of("gd")[1].step(type(d.steps[0])).equations == ()


@update_rule(**LR, **BETA, **NU)
def shared_step(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g / sqrt(mean(s.nu))


@update_rule(**LR, **BETA, **NU)
def falling(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g * (1 + s.nu)


@pytest.mark.parametrize("rule", [shared_step, falling], ids=lambda r: r.name)
def test_unusual_preconditioners_are_derived_and_declined_here_only(rule):
    """P of a reduced accumulator, and P that falls with its accumulator: everything but (T14) exists."""
    d = derive(rule)
    assert d.emitted.source and d.to_latex()
    assert all(d.projection.checks.values())
    assert d.fixed_point.status == "uncovered" and d.fixed_point.reason


@pytest.mark.parametrize("schedule", ["1/(1 + t/100)", "1/sqrt(t)", "exp(-t/100)"])
def test_matrix_program_of_a_scheduled_rule(schedule):
    found = derive("full_matrix_rmsprop", lr=schedule).fixed_point
    assert found.status == "matrix" and all(found.checks.values())
