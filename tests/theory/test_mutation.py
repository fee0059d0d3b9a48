"""One definition, all results: a changed coefficient in a rule reaches P, λ*, σ², the document and the code."""

from functools import cache

import pytest

from theory import RuleRefused, derive, hyper, norm2, per_parameter, scalar, sqrt, update_rule


@cache
def momentum(factor, copy=0):
    @update_rule(name="mutant", lr=hyper("(0, oo)"), beta=hyper("[0, 1)"), m=per_parameter())
    def rule(s):
        s.m = s.beta * s.m + factor * s.g
        s.w = s.w - s.lr * (s.g + s.beta * s.m)

    return derive(rule)


@cache
def adaptive(factor, copy=0):
    @update_rule(name="mutant", lr=hyper("(0, oo)"), beta2=hyper("[0, 1)"), nu=scalar(nonnegative=True))
    def rule(s):
        s.nu = s.beta2 * s.nu + factor * (1 - s.beta2) * norm2(s.g)
        s.w = s.w - s.lr * s.g / sqrt(s.nu)

    return derive(rule)


def one_mode(d):
    return d.complementarity.variance


RESULTS = {
    "P": lambda d: d.preconditioner,
    "threshold": lambda d: d.threshold,
    "variance": one_mode,
    "central flow": lambda d: d.central_flow,
    "LaTeX": lambda d: d.to_latex(),
    "code": lambda d: d.to_torch_source(),
}


@pytest.mark.parametrize("result", ["P", "threshold", "central flow", "LaTeX", "code"])
def test_momentum_coefficient_reaches(result):
    assert RESULTS[result](momentum(1)) == RESULTS[result](momentum(1, copy=1))
    assert RESULTS[result](momentum(1)) != RESULTS[result](momentum(2))


@pytest.mark.parametrize("result", ["variance", "central flow", "LaTeX", "code"])
def test_accumulator_coefficient_reaches(result):
    assert RESULTS[result](adaptive(1)) == RESULTS[result](adaptive(1, copy=1))
    assert RESULTS[result](adaptive(1)) != RESULTS[result](adaptive(2))


def test_wrong_sign_of_the_step_is_noticed():
    @update_rule(lr=hyper("(0, oo)"))
    def ascent(s):
        s.w = s.w + s.lr * s.g

    with pytest.raises(RuleRefused, match="up the gradient"):
        derive(ascent)
