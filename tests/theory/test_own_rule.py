"""A rule outside every library, from file to flow and document."""

from pathlib import Path

import pytest

from tests.theory.own_rule import own_rule
from theory import available_rules, cbrt, derive, exp
from theory.calculus import is_zero
from theory.symbols import HSH, BlockTotal, Shape, g, q, w

FILE = Path(__file__).with_name("own_rule.py")


@pytest.fixture(scope="module")
def d():
    return derive(FILE)


def test_it_is_not_registered():
    assert own_rule.name not in available_rules()


def test_file_and_object_give_the_same_equations(d):
    assert derive(own_rule).central_flow == d.central_flow


def test_normal_form(d):
    lr, eps, nu, t = (d.rule_symbol(n) for n in ("lr", "eps", "nu", "t"))
    assert is_zero(d.preconditioner - (cbrt(nu) + eps) / (lr * exp(-t / 200)))
    assert d.normal_form.shape is Shape.BLOCK
    assert d.filter == 1
    assert d.threshold == 2


def test_flow(d):
    beta2, nu, t = (d.rule_symbol(n) for n in ("beta2", "nu", "t"))
    assert d.central_flow[t] == 1
    assert is_zero(d.central_flow[nu] - (1 - beta2) / beta2 * (BlockTotal(g**2) + BlockTotal(HSH) - nu))
    assert is_zero(d.central_flow[w] * d.preconditioner + g + q / 2)


def test_document(d):
    document = d.to_latex()
    assert r"\nu_{b}" in document
    assert r"\lVert g_{b}\rVert^{2}" in document
    assert r"\sum_{j\in b}" in document
    assert document.isascii()


def test_code(d):
    compile(d.to_torch_source(), "own_rule", "exec")
    assert "block_total(" in d.to_torch_source()
