"""Directional derivatives against finite differences, with reductions lowered to numpy by an obvious evaluator."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.calculus import directional, is_linear, is_zero, second, simplify
from theory.symbols import BlockTotal, Shape, Total, g, quantity, u, v, w

c = quantity("c", Shape.SCALAR, positive=True)
N, BLOCKS = 5, (slice(0, 2), slice(2, 5))
rng = np.random.default_rng(0)
POINT = {str(s): rng.normal(size=N) for s in (g, u, v, w)} | {"c": 1.7}


def evaluate(expr, values):
    if isinstance(expr, Total):
        return np.broadcast_to(evaluate(expr.args[0], values), N).sum()
    if isinstance(expr, BlockTotal):
        inner = np.broadcast_to(evaluate(expr.args[0], values), N)
        return np.concatenate([np.full(s.stop - s.start, inner[s].sum()) for s in BLOCKS])
    if expr.is_Symbol:
        return values[str(expr)]
    if not expr.args:
        return float(expr)
    return sp.lambdify(
        [sp.Symbol(f"x{k}") for k in range(len(expr.args))], expr.func(*sp.symbols(f"x:{len(expr.args)}")), "numpy"
    )(*[evaluate(a, values) for a in expr.args])


vectors = st.sampled_from([g, w])
atoms = st.one_of(vectors, st.just(c), st.integers(-2, 3).map(sp.Integer))
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        inner.map(lambda e: Total(e)),
        inner.map(lambda e: BlockTotal(e)),
        inner.map(lambda e: sp.sqrt(1 + e**2)),
        inner.map(lambda e: sp.exp(-(e**2))),
    ),
    max_leaves=4,
)


def moved(step):
    return POINT | {"g": POINT["g"] + step * POINT["u"], "w": POINT["w"] + step * POINT["v"]}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(expressions)
def test_first_derivative(expr):
    exact = evaluate(directional(expr, {g: u, w: v}), POINT)
    step = 1e-5
    numeric = (evaluate(expr, moved(step)) - evaluate(expr, moved(-step))) / (2 * step)
    scale = 1 + np.abs(evaluate(expr, POINT)).max() + np.abs(exact).max()
    assert np.abs(exact - numeric).max() <= 1e-6 * scale  # step² times a third derivative of order 1e2


@settings(max_examples=15, deadline=None, derandomize=True)
@given(expressions)
def test_second_derivative(expr):
    exact = evaluate(second(expr, {g: u, w: v}, {g: u, w: v}), POINT)
    step = 1e-4
    numeric = (evaluate(expr, moved(step)) - 2 * evaluate(expr, moved(0)) + evaluate(expr, moved(-step))) / step**2
    scale = 1 + np.abs(evaluate(expr, POINT)).max() + np.abs(exact).max()
    assert np.abs(exact - numeric).max() <= 1e-4 * scale  # round-off 1e-16/step² and step² times a fourth derivative


def test_second_derivative_is_symmetric():
    expr = Total(g**2) * sp.sqrt(1 + w**2) + g * w
    first, other = {g: u}, {w: v}
    assert is_zero(second(expr, first, other) - second(expr, other, first))


def test_inner_product_and_norm():
    assert directional(Total(g**2), {g: u}) == 2 * Total(g * u)
    assert directional(sp.sqrt(Total(g**2)), {g: u}) == Total(g * u) / sp.sqrt(Total(g**2))
    assert second(Total(g**2), {g: u}, {g: v}) == 2 * Total(u * v)


def test_simplify_keeps_reductions():
    assert simplify(Total(g**2) * sp.sin(c) ** 2 + Total(g**2) * sp.cos(c) ** 2) == Total(g**2)


@pytest.mark.parametrize(
    ("expr", "linear"), [(2 * g + c * w, True), (g + 1, False), (g * w, False), (Total(g), True), (g**2 / g, True)]
)
def test_linearity(expr, linear):
    assert is_linear(expr, [g, w], [u, v]) is linear
