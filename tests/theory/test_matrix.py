"""Matrices by nodes: their calculus against numbers, what is refused, and the chain for rules with a matrix preconditioner."""

import numpy as np
import pytest
import sympy as sp

from derivations.check.numbers import Layout
from theory import (
    RuleRefused,
    derive,
    hyper,
    identity,
    matrix,
    matrix_sqrt,
    outer,
    per_parameter,
    solve,
    sqrt,
    update_rule,
)
from theory.calculus import directional, is_zero
from theory.matrices import Apply, Eye, MatrixSqrt, Outer, Solve, SqrtRate
from theory.matrix_fixed_point import eigenvalue as p
from theory.symbols import HSH_matrix, Shape, Sigma_matrix, Total, g, quantity, shape_of, u, v, y

V, D = quantity("V", Shape.MATRIX), quantity("D", Shape.MATRIX)
c = quantity("c", Shape.SCALAR, positive=True)
P = (MatrixSqrt(V) + c * Eye()) / 2
LAYOUT = Layout((4,))
DECLARED = dict(lr=hyper("(0, oo)"), beta2=hyper("[0, 1)"), eps=hyper("(0, oo)"), V=matrix(nonnegative=True))


def numbers():
    random = np.random.default_rng(0)
    M, N, *vectors = (random.standard_normal(s) for s in ((4, 4), (4, 4), 4, 4, 4, 4))
    return {V: M @ M.T + np.eye(4) / 4, D: N + N.T, c: 0.3} | dict(zip((g, u, v, y), vectors, strict=True))


def value(expr, values=None):
    return LAYOUT.evaluate(expr, values or numbers())


def test_forms_are_canonical():
    assert Outer(2 * g + u, c * v) == 2 * c * Outer(g, v) + c * Outer(u, v)
    assert Outer(g, u) == Outer(u, g) and Outer(g, 0) == 0
    assert Apply(P, Solve(P, g)) == g and Solve(V, Apply(V, g)) == g
    assert is_zero(Solve(3 * P, g) - Solve(P, g) / 3)
    assert Apply(Eye(), g) == g and Solve(c * Eye(), g) == g / c
    assert SqrtRate(V, c * V) == c * MatrixSqrt(V) / 2
    assert Total(u * Apply(Outer(g, v), y)) == Total(u * (g * Total(v * y) + v * Total(g * y)) / 2)


def test_shapes():
    assert shape_of(P) is shape_of(Outer(g, g)) is Shape.MATRIX
    assert shape_of(Solve(P, g)) is shape_of(Apply(P, g)) is Shape.PARAMETER
    assert shape_of(Total(u * Apply(P, v))) is Shape.SCALAR


@pytest.mark.parametrize("expr", [P, Solve(P, g), Apply(MatrixSqrt(V), u), Total(g * Solve(P, g)), c * V + Outer(g, g)])
def test_derivatives_along_a_matrix_are_those_of_numbers(expr):
    h, at = 1e-5, numbers()
    up, down = (value(expr, at | {V: at[V] + s * h * at[D]}) for s in (1, -1))
    assert value(directional(expr, {V: D})) == pytest.approx((up - down) / (2 * h), rel=1e-7, abs=1e-7)


def test_derivatives_along_a_vector_are_those_of_numbers():
    expr, h, at = Apply(Outer(g, g), u) + Solve(P, g), 1e-5, numbers()
    up, down = (value(expr, at | {g: at[g] + s * h * at[y]}) for s in (1, -1))
    assert value(directional(expr, {g: y})) == pytest.approx((up - down) / (2 * h), rel=1e-7)


def test_the_derivative_of_the_root_solves_lyapunovs_equation():
    S, L = value(MatrixSqrt(V)), value(SqrtRate(V, D))
    assert pytest.approx(numbers()[V]) == S @ S
    assert pytest.approx(numbers()[D]) == S @ L + L @ S


def test_accumulator_part_of_the_oscillations_force_is_self_adjoint_and_psd():
    """Section 5: with HU = λ*PU, X ↦ Uᵀ 𝓛_V[PUXUᵀP] U on symmetric X."""
    M, modes = value(P), np.random.default_rng(1).standard_normal((3, 4))
    basis = [(np.outer(a, b) + np.outer(b, a)) / 2 for i, a in enumerate(np.eye(3)) for b in np.eye(3)[: i + 1]]
    images = [modes @ value(SqrtRate(V, D), numbers() | {D: M @ modes.T @ E @ modes @ M}) @ modes.T for E in basis]
    gram = np.array([[np.vdot(E, image) for image in images] for E in basis])
    assert np.abs(gram - gram.T).max() < 1e-13 * np.abs(gram).max()
    assert np.linalg.eigvalsh(gram)[0] > 0


def step(s, V_next, M):
    s.V = V_next
    s.w = s.w - s.lr * solve(M(s), s.g)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda s: step(s, s.beta2 * s.V + s.g**2, lambda s: s.V + s.eps * identity()), "entry by entry"),
        (lambda s: step(s, s.V * s.V + outer(s.g), lambda s: s.V + s.eps * identity()), "entry by entry"),
        (lambda s: step(s, outer(s.g) + s.V, lambda s: sqrt(s.V)), "entry by entry"),
        (lambda s: step(s, outer(s.g) + s.V, lambda s: s.V + s.eps), "entry by entry"),
        (lambda s: step(s, s.eps, lambda s: s.V), "is a matrix"),
    ],
)
def test_what_acts_entry_by_entry_is_refused(body, words):
    rule = update_rule(name="wrong", **DECLARED)(lambda s: body(s))
    with pytest.raises(RuleRefused, match=words):
        derive(rule)


def test_two_matrices_in_one_step_are_refused():
    @update_rule(**DECLARED)
    def two(s):
        s.V = s.beta2 * s.V + outer(s.g)
        s.w = s.w - s.lr * (s.g + solve(s.V + s.eps * identity(), s.g))

    with pytest.raises(RuleRefused, match="one matrix M"):
        derive(two)


@update_rule(**DECLARED)
def gauss(s):
    """The second moment itself, not its root."""
    s.V = s.beta2 * s.V + (1 - s.beta2) * outer(s.g)
    s.w = s.w - s.lr * solve(s.V + s.eps * identity(), s.g)


@update_rule(**DECLARED, m=per_parameter())
def with_momentum(s):
    """Full-matrix Adam without bias correction."""
    s.m = s.beta2 * s.m + (1 - s.beta2) * s.g
    s.V = s.beta2 * s.V + (1 - s.beta2) * outer(s.g)
    s.w = s.w - s.lr * solve(matrix_sqrt(s.V) + s.eps * identity(), s.m)


@update_rule(**{n: d for n, d in DECLARED.items() if n != "beta2"})
def summed(s):
    """Full-matrix AdaGrad."""
    s.V = s.V + outer(s.g)
    s.w = s.w - s.lr * solve(matrix_sqrt(s.V) + s.eps * identity(), s.g)


def test_full_matrix_rmsprop():
    d = derive("full_matrix_rmsprop")
    lr, beta2, eps, state = (d.rule_symbol(n) for n in ("lr", "beta2", "eps", "V"))
    assert d.threshold == 2 and d.normal_form.shape is Shape.MATRIX
    assert is_zero(d.preconditioner - (MatrixSqrt(state) + eps * Eye()) / lr)
    assert is_zero(d.flow.a_average(state) - (1 - beta2) / beta2 * (Outer(g, g) + HSH_matrix - state))
    f = d.fixed_point
    assert f.status == "matrix" and f.convex and all(f.checks.values())
    assert is_zero(f.objective_prime - (lr - eps / p) ** 2)
    assert f.stationary.has(Sigma_matrix) and f.lower == eps / lr


def test_momentum_before_a_matrix_is_a_filter():
    d = derive(with_momentum)
    beta = d.rule_symbol("beta2")
    assert [str(m) for m in d.normal_form.filters] == ["m"]
    assert is_zero(d.threshold - 2 * (1 + beta) / (1 - beta))


def test_fixed_points_of_other_matrix_rules():
    f, lr, eps = derive(gauss).fixed_point, *(derive(gauss).rule_symbol(n) for n in ("lr", "eps"))
    assert f.status == "matrix" and all(f.checks.values())
    assert is_zero(f.objective_prime - (lr * p - eps) / p**2)
    assert not f.convex  # φ″ = −lr/p² + 2eps/p³ is negative beyond p = 2eps/lr
    assert derive(summed).fixed_point.status == "none"
    assert sp.simplify(f.lower - eps / lr) == 0
