import pytest
import sympy as sp

from theory.symbols import (
    CATALOGUE,
    BlockTotal,
    Shape,
    Total,
    g,
    gradS,
    latex_name,
    quantity,
    shape_of,
    u,
    v,
    w,
)

block = quantity("nu", Shape.BLOCK)
number = quantity("eta", Shape.SCALAR, positive=True)


def test_total_is_linear():
    assert Total(2 * g + number * u) == 2 * Total(g) + number * Total(u)
    assert Total(0) == 0


def test_total_of_products_expands():
    assert Total((g + u) ** 2) == Total(g**2) + 2 * Total(g * u) + Total(u**2)


def test_block_total_pulls_out_what_is_constant_in_a_block():
    assert BlockTotal(block * number * g) == block * number * BlockTotal(g)
    assert Total(block * number * g) == number * Total(block * g)


def test_shapes():
    assert shape_of(number) is Shape.SCALAR
    assert shape_of(block + number) is Shape.BLOCK
    assert shape_of(block * g) is Shape.PARAMETER
    assert shape_of(Total(block * g)) is Shape.SCALAR
    assert shape_of(BlockTotal(g**2)) is Shape.BLOCK


def test_signs():
    assert Total(g**2).is_nonnegative
    assert Total(g).is_nonnegative is None
    assert g.is_real


def test_derivative_in_a_scalar_goes_inside():
    x = quantity("x", Shape.SCALAR)
    assert sp.diff(Total(sp.exp(x * g)), x) == Total(g * sp.exp(x * g))


def test_total_may_not_be_differentiated_by_a_coordinate():
    with pytest.raises(AssertionError):
        sp.diff(Total(g**2), g)


def test_same_code_name_and_shape_is_the_same_symbol():
    assert quantity("w", Shape.PARAMETER) == w
    assert quantity("w", Shape.SCALAR) != w


def test_names():
    assert latex_name("nu_next") == r"\nu^{+}"
    assert latex_name("nu_dot") == r"\dot{\nu}"
    assert latex_name("gradS") == r"\nabla S"
    assert all(entry.latex and entry.meaning for entry in CATALOGUE.values())
    assert {u.name, v.name, gradS.name} <= CATALOGUE.keys()
