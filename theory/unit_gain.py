r"""Bias-corrected momentum as a filter of unit gain: a change of variables before the normal form (THEORY section 1).

A rule that divides its momentum by 1 − β₁ᵗ reads the filter m through a gain c(t), t being the counter or any other clock. The state m̂ = c(t) m obeys
m̂ ← β_t m̂ + (1 − β_t) g: it settles at g whatever t is, so that the correction belongs to the filter, not to P.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import sympy as sp

from theory.calculus import is_zero
from theory.clock import advanced, clocks_of
from theory.rule import Update
from theory.symbols import Quantity, Reduction, Shape, g

Scales = dict[str, sp.Expr]


def to_unit_gain(update: Update) -> tuple[Update, Scales]:
    """Rewrite a recorded step in m̂ = c(t) m wherever that gives a filter of unit gain at every t.

    Args:
        update: the recorded step.

    Returns:
        The equivalent step, and for each rescaled state the gain c in the updated clocks.
    """
    scales = {n: c for n in update.states if (c := _gain(update, n)) is not None}
    return _rescaled(update, scales), scales


def _gain(update: Update, name: str) -> sp.Expr | None:
    """The gain c(t) under which w reads the state, if c·(its next value) has unit gain: c_t(β/c_{t−1} + 1 − β) = 1."""
    written = {e.state: e.expr for e in update.equations}
    if update.states[name].shape is Shape.MATRIX:
        return None  # a matrix is no filter of the gradient
    if any(r.has(update.new(name)) for r in written["w"].atoms(Reduction)):
        return None  # what is read through a reduction is no filter of its own coordinate
    factors = _timed_factors(update, sp.diff(written["w"], update.new(name)))
    chosen = (sp.Mul(*c) for size in range(len(factors), 0, -1) for c in combinations(factors, size))
    return next((c for c in chosen if _has_unit_gain(update, name, written[name], c)), None)


def _has_unit_gain(update: Update, name: str, expr: sp.Expr, c: sp.Expr) -> bool:
    settled = expr.xreplace({update.old(name): 1 / _before(update, c), g: sp.S.One})
    return is_zero(sp.expand_power_exp(sp.together(c * settled - 1).xreplace(advanced(update))))


def _timed_factors(update: Update, coefficient: sp.Expr) -> list[sp.Expr]:
    """Factors of a coefficient that depend on clocks and hyperparameters alone."""
    clocks = {update.new(n) for n in clocks_of(update)}
    known = clocks | set(update.hyper.values())
    return [f for f in sp.Mul.make_args(coefficient) if f.free_symbols & clocks and f.free_symbols <= known]


def _before(update: Update, c: sp.Expr) -> sp.Expr:
    """The gain of the step before: c in the old clocks."""
    return c.xreplace({update.new(n): update.old(n) for n in clocks_of(update)})


def _rescaled(update: Update, scales: Scales) -> Update:
    if not scales:
        return update
    raw: dict[Quantity, sp.Expr] = {update.new(n): update.new(n) / c for n, c in scales.items()}
    raw |= {update.old(n): update.old(n) / _before(update, c) for n, c in scales.items()}
    equations = tuple(
        replace(e, expr=_collected(scales.get(e.state, sp.S.One) * e.expr.xreplace(raw), update))
        for e in update.equations
    )
    return replace(update, equations=equations)


def _collected(expr: sp.Expr, update: Update) -> sp.Expr:
    """The expression with each state's and the gradient's coefficient in one piece, where it is linear in them."""
    linear = [g, *(s for n in update.states for s in (update.old(n), update.new(n)) if s in expr.free_symbols)]
    return sp.collect(sp.expand(expr), linear, sp.factor) if expr.is_polynomial(*linear) else expr
