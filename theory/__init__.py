"""Symbolic derivation of central flows: from an update rule, declared once, to its equations, documents and code."""

from sympy import Rational, cbrt, exp, log, sign, sqrt

from theory.declarations import counter, hyper, matrix, option, per_block, per_parameter, scalar
from theory.derivation import Derivation, derive
from theory.errors import RuleRefused
from theory.operations import (
    block_mean,
    block_norm2,
    identity,
    matrix_sign,
    matrix_sqrt,
    mean,
    norm2,
    outer,
    solve,
    total,
)
from theory.registry import available_rules, derivable_rules, load_rule
from theory.rule import UpdateRule, update_rule

__all__ = [
    "Derivation",
    "Rational",
    "RuleRefused",
    "UpdateRule",
    "available_rules",
    "block_mean",
    "block_norm2",
    "cbrt",
    "counter",
    "derivable_rules",
    "derive",
    "exp",
    "hyper",
    "identity",
    "load_rule",
    "log",
    "matrix",
    "matrix_sign",
    "matrix_sqrt",
    "mean",
    "norm2",
    "option",
    "outer",
    "per_block",
    "per_parameter",
    "scalar",
    "sign",
    "solve",
    "sqrt",
    "total",
    "update_rule",
]
