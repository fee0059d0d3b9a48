"""Symbolic derivation of central flows: from an update rule, declared once, to its equations, documents and code."""

from sympy import cbrt, exp, log, sqrt

from theory.derivation import Derivation, derive
from theory.errors import RuleRefused
from theory.registry import available_rules, load_rule
from theory.rule import (
    UpdateRule,
    block_mean,
    block_norm2,
    counter,
    hyper,
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
    "RuleRefused",
    "UpdateRule",
    "available_rules",
    "block_mean",
    "block_norm2",
    "cbrt",
    "counter",
    "derive",
    "exp",
    "hyper",
    "load_rule",
    "log",
    "mean",
    "norm2",
    "option",
    "per_block",
    "per_parameter",
    "scalar",
    "sqrt",
    "total",
    "update_rule",
]
