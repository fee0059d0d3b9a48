"""Symbolic derivation of central flows: from an update rule, declared once, to its equations, documents and code."""

from sympy import Rational, cbrt, exp, log, sign, sqrt

from theory.derivation import Derivation, derive
from theory.errors import RuleRefused
from theory.registry import available_rules, derivable_rules, load_rule
from theory.rule import (
    UpdateRule,
    block_mean,
    block_norm2,
    counter,
    hyper,
    matrix_sign,
    mean,
    norm2,
    option,
    per_block,
    per_parameter,
    scalar,
    total,
    update_rule,
)

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
    "load_rule",
    "log",
    "matrix_sign",
    "mean",
    "norm2",
    "option",
    "per_block",
    "per_parameter",
    "scalar",
    "sign",
    "sqrt",
    "total",
    "update_rule",
]
