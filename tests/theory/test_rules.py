"""Every registered rule: check values, refusals, and equality with torch.optim step by step."""

from dataclasses import replace

import pytest
import sympy as sp
import torch

from numerics.lowered import lower
from theory import RuleRefused, available_rules, derivable_rules, derive
from theory.calculus import is_zero
from theory.clock import moments
from theory.symbols import g, z

REFUSED = {name: rule for name, rule in available_rules().items() if rule.refused is not None}
N, STEPS = 23, 200


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(name):
    with pytest.raises(RuleRefused, match=REFUSED[name].refused):
        derive(name)


def test_complex_pair_is_refused_with_its_eigenvalue():
    """F = 0.18z²/((z − 0.4)(z − 0.7)) leaves the unit disc at λ = 18/7 (THEORY section 2)."""
    with pytest.raises(RuleRefused, match=r"λ = 2\.57143"):
        derive("two_pole")


# λ* at β = 0.9 (THEORY section 2), checked there by brute-force spectral radius.
THRESHOLDS = [
    ("gd", {}, 2),
    ("heavy_ball", {"momentum": "9/10", "dampening": 0}, 38),
    ("heavy_ball", {"momentum": "9/10", "dampening": "9/10"}, 38),
    ("nesterov", {"momentum": "9/10"}, sp.Rational(95, 7)),
    ("qhm", {"momentum": "9/10", "weight": "7/10"}, sp.Rational(95, 16)),
    ("adam", {"beta1": "9/10"}, 38),
    ("scalar_adam", {"beta1": "9/10"}, 38),
    ("adabelief", {"beta1": "9/10"}, 38),
    ("nadam", {"beta1": "9/10"}, sp.Rational(95, 7)),
    ("adamw", {"beta1": "9/10", "lr": "1/10", "weight_decay": "1/10"}, sp.Rational(199, 100) * 19),
    ("rmsprop_momentum", {"momentum": "9/10"}, 38),
]


@pytest.mark.parametrize(("name", "hyper", "expected"), THRESHOLDS)
def test_threshold_after_a_long_time(name, hyper, expected):
    d = derive(name)
    values = {d.rule_symbol(k): sp.Rational(v) for k, v in hyper.items()}
    assert is_zero(d.limit(d.threshold).subs(values) - expected)


@pytest.mark.parametrize(("t", "expected"), [(1, 2), (2, 5.6), (5, 14.4), (10, 24.1), (20, 33.1), (50, 37.8)])
def test_threshold_of_adam_grows_with_its_bias_correction(t, expected):
    d = derive("adam")
    value = d.threshold.subs({d.rule_symbol("beta1"): sp.Rational(9, 10), d.rule_symbol("t"): t})
    assert float(value) == pytest.approx(expected, abs=0.06)  # THEORY gives one decimal


# μ_t at β₁ = 0.9 and decay 0.004 (THEORY section 1).
@pytest.mark.parametrize(("t", "expected"), [(10, 3.5), (5000, 6.0), (20000, 12.2)])
def test_threshold_of_nadam_grows_with_its_momentum_schedule(t, expected):
    d = derive("nadam")
    values = {d.rule_symbol(n): h.default for n, h in d.rule.hyper.items() if h.default is not None}
    (clocks,) = moments(d.normal_form, values, (t,))
    assert float(d.threshold.subs(values).subs(clocks)) == pytest.approx(expected, abs=0.05)  # THEORY gives one decimal


def test_nadam_is_quasi_hyperbolic_with_the_weight_of_the_step():
    """Where μ₁⋯μ_t has died out: gain 1 − μ_t + μ_{t+1}, and F that of QHM with weight μ_{t+1}/(1 − μ_t + μ_{t+1})."""
    d = derive("nadam")
    assert [str(c) for c in d.normal_form.clocks] == ["mu_product", "t"]
    beta1, t, decay = (d.rule_symbol(n) for n in ("beta1", "t", "momentum_decay"))
    mu, ahead = (beta1 * (1 - sp.Rational(24, 25) ** (s * decay) / 2) for s in (t, t + 1))
    late = {d.rule_symbol("mu_product"): 0}
    qhm = (1 - mu + ahead * (1 - beta1) * z / (z - beta1)) / (1 - mu + ahead)
    assert is_zero(d.filter.subs(late) - qhm)
    gain = (d.rule_symbol("lr") * d.preconditioner).subs({d.rule_symbol("nu"): 0, d.rule_symbol("eps"): 1})
    assert is_zero(1 / gain.subs(late) - (1 - mu + ahead))
    assert d.stability.proved


LAGS = [
    ("heavy_ball", lambda b, q: (1 + b) / (2 * (1 - b))),
    ("nesterov", lambda b, q: (1 - b + 2 * b**2) / (2 * (1 - b))),
    ("qhm", lambda b, q: (1 - b + 2 * b * q) / (2 * (1 - b))),
]


@pytest.mark.parametrize(("name", "published"), LAGS)
def test_lag_of_the_inertial_flow(name, published):
    d = derive(name)
    q = d.rule_symbol("weight") if name == "qhm" else None
    assert is_zero(d.normal_form.lag - published(d.rule_symbol("momentum"), q))


def test_inertial_start_of_an_ema_filter():
    """m(0) = ∇L + (m₋₁ − ∇L)·2β/(1 + β) (THEORY section 4)."""
    d = derive("heavy_ball", ema=True)
    beta, m = d.rule_symbol("momentum"), d.rule_symbol("m")
    assert is_zero(d.normal_form.pole_start - g - (m - g) * 2 * beta / (1 + beta))


def gradients():
    """200 gradients with exact zeros and scales from 1e-6 to 1e6."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(STEPS, N, generator=generator, dtype=torch.float64)
    g *= 10.0 ** torch.randint(-6, 7, (1, N), generator=generator)
    g[torch.rand(STEPS, N, generator=generator) < 0.1] = 0.0
    g[:, 0] = 0.0
    return g


TORCH = {
    "heavy_ball": (torch.optim.SGD, dict(momentum=0.9), dict(momentum=0.9), {}),
    "heavy_ball, dampening": (
        torch.optim.SGD,
        dict(momentum=0.8, dampening=0.3),
        dict(momentum=0.8, dampening=0.3),
        {},
    ),
    "nesterov": (torch.optim.SGD, dict(momentum=0.9, nesterov=True), dict(momentum=0.9), {}),
    "adam": (torch.optim.Adam, dict(betas=(0.8, 0.99), eps=1e-6), dict(beta1=0.8, beta2=0.99, eps=1e-6), {}),
    "adamw": (
        torch.optim.AdamW,
        dict(betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1),
        dict(beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=0.1),
        {},
    ),
    "rmsprop_momentum": (
        torch.optim.RMSprop,
        dict(alpha=0.95, momentum=0.7, eps=1e-6),
        dict(beta2=0.95, momentum=0.7, eps=1e-6),
        {},
    ),
    "adagrad": (torch.optim.Adagrad, dict(eps=1e-8), dict(eps=1e-8), {}),
    "nadam": (torch.optim.NAdam, dict(betas=(0.9, 0.99), eps=1e-6), dict(beta1=0.9, beta2=0.99, eps=1e-6), {}),
}


@pytest.fixture
def double():
    """As the default: NAdam keeps its product of weights in the default dtype, whatever the parameters have."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("case", [c for c in TORCH if c.split(",")[0] in available_rules()])
def test_discrete_rule_is_torch_optim(case, double):
    """The same gradients, step by step, from the same weights."""
    optimizer_class, theirs, ours, _ = TORCH[case]
    g, name = gradients(), case.split(",")[0]
    w = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameter = torch.nn.Parameter(w.clone())
    optimizer = optimizer_class([parameter], lr=0.01, **theirs)
    rule = lower(derive(name).emitted, dict(lr=0.01, **ours), (N,), w)
    # torch starts its momentum at m = g, also with dampening: the state g·dampening/momentum before the first step.
    first = {"m": g[0] * ours["dampening"] / ours["momentum"]} if "dampening" in ours else {}
    states = rule.pack(first)
    for gradient in g:
        parameter.grad = gradient.clone()
        optimizer.step()
        w, states = rule.f.step(w, gradient, states)
        torch.testing.assert_close(w, parameter.detach(), rtol=1e-12, atol=1e-300)


def test_slow_preconditioner_must_be_stated():
    rule = derivable_rules()["rmsprop_momentum"]
    with pytest.raises(RuleRefused, match="slow_preconditioner=True"):
        derive(replace(rule, slow_preconditioner=False))
