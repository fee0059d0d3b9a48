r"""From the averaged map to the flow (THEORY section 4): (T7) for the accumulators, (T8) for the parameters.

Accumulators are taken at their *updated* values. Replacing a_{t−1} by a − ȧ in a = f̄(a_{t−1}) gives ȧ = (∂_a f̄)⁻¹[f̄(a) − a].
Read backwards, one implicit Euler step of length 1 of this flow is the optimizer's own accumulator update. Clocks are no part of (T7): no gradient
reaches them, so each step advances them exactly, first, and ∂_a f̄ is taken at the updated clocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.averaging import Averages, as_variance
from theory.calculus import directional, is_zero, opaquely, simplify
from theory.errors import RuleRefused
from theory.matrices import divided
from theory.normal_form import NormalForm
from theory.symbols import Quantity, T, g, q, quantity, shape_of, w


@dataclass(frozen=True)
class Flow:
    """Right-hand sides: stable parts (X = 0), and coefficients of X for a pair of modes.

    ``w_stable`` = −γw − P⁻¹g; ``w_X`` = −½P⁻¹T with T = ∇H[u_k, u_l]; ``a_stable``, ``a_X`` and ``a_cross`` likewise for each
    accumulator, a_X bilinear in (y, y'); ``memory`` is det ∂_a f̄, zero where an accumulator has no memory; ``jacobian`` is ∂ȧ/∂a. A clock's
    rate is its change in the coming step, and its row and column of the Jacobian are zero.
    """

    w_stable: sp.Expr
    w_X: sp.Expr
    w_average: sp.Expr
    a_stable: dict[Quantity, sp.Expr]
    a_X: dict[Quantity, sp.Expr]
    a_cross: dict[Quantity, sp.Expr]
    memory: sp.Expr
    jacobian: sp.Matrix
    settle: dict[Quantity, sp.Expr]

    def a_average(self, a: Quantity) -> sp.Expr:
        r"""ȧ with the oscillation's part written in (HΣH)_ii, filter states eliminated, as it is printed."""
        return collect(self.settled(a) + as_variance(self.a_X[a].xreplace(self.settle)))

    def settled(self, a: Quantity) -> sp.Expr:
        """ȧ without oscillation, filter states eliminated."""
        return collect(sp.expand(self.a_stable[a].xreplace(self.settle)))


def to_flow(form: NormalForm, averages: Averages) -> Flow:
    """Turn the averaged map into the flow.

    Args:
        form: the rule in normal form.
        averages: of its accumulators.

    Returns:
        The flow's right-hand sides.

    Raises:
        RuleRefused: If an accumulator has no memory (∂_a f̄ singular) or reads a reduction of another.
    """
    names = [a for a in form.accumulators if a not in form.clocks]
    J = sp.Matrix([[local_derivative(averages.mean[a], b, form.update.rule.name) for b in names] for a in names])
    memory = sp.factor(J.det()) if names else sp.S.One
    if is_zero(memory):
        raise RuleRefused(
            f"{_place_without_memory(form, names, J)} has an accumulator without memory: ∂f/∂a is singular, so its flow (T7) does not exist, and P would swing with the gradient at every step; give the accumulator a decay."
        )
    inverse = J.inv().applyfunc(simplify) if names else J
    stable = inverse * sp.Matrix([sp.expand(averages.mean[a] - a) for a in names]) if names else []
    oscillating = inverse * sp.Matrix([averages.oscillation[a] for a in names]) if names else []
    cross = inverse * sp.Matrix([averages.cross[a] for a in names]) if names else []
    moving = {a: collect(e) for a, e in zip(names, stable, strict=True)}
    order = list(form.accumulators)
    still = dict.fromkeys(order, sp.S.Zero)
    return Flow(
        w_stable=-form.gamma * w - divided(g, form.P),
        w_X=-divided(T / 2, form.P),
        w_average=-form.gamma * w - divided(g + q / 2, form.P),
        a_stable={a: moving[a] if a in moving else clock_rate(form, a) for a in order},
        a_X=still | {a: collect(e) for a, e in zip(names, oscillating, strict=True)},
        a_cross=still | {a: collect(e) for a, e in zip(names, cross, strict=True)},
        memory=memory,
        jacobian=sp.Matrix(
            len(order),
            len(order),
            lambda i, j: (
                simplify(local_derivative(moving[order[i]], order[j], form.update.rule.name))
                if order[i] in moving and order[j] in moving
                else sp.S.Zero
            ),
        ),
        settle=averages.settle,
    )


def clock_rate(form: NormalForm, clock: Quantity) -> sp.Expr:
    """What the coming step adds to a clock: 1 for the step counter."""
    return sp.expand(form.accumulators[clock] - clock)


def collect(expr: sp.Expr) -> sp.Expr:
    """Common factors outside, as a paper would print a relaxation."""
    return opaquely(sp.factor, expr)


def _place_without_memory(form: NormalForm, names: list[Quantity], J: sp.Matrix) -> str:
    """Rule, and the line of the accumulator whose next value does not depend on its old one, if it is one."""
    forgetful = [str(a) for k, a in enumerate(names) if J[k, k] == 0]
    return form.update.place(forgetful[0]) if forgetful else f"the rule {form.update.rule.name!r}"


def local_derivative(expr: sp.Expr, a: Quantity, rule: str) -> sp.Expr:
    """∂expr/∂a at the same coordinate (or block).

    Args:
        expr: a right-hand side.
        a: the accumulator.
        rule: its name, for the message.

    Returns:
        The derivative.

    Raises:
        RuleRefused: If expr depends on a reduction of a over other coordinates.
    """
    probe = quantity("probe", a.shape)
    slope = directional(expr, {a: probe})
    derivative = sp.diff(slope, probe) if not any(probe in r.free_symbols for r in slope.atoms(sp.Function)) else None
    if derivative is None or shape_of(derivative) > shape_of(expr):
        raise RuleRefused(
            f"the rule {rule!r} lets an accumulator read a reduction of the accumulator {a}: their joint flow is not local; reduce the gradient instead."
        )
    return derivative


def preconditioner_rate(form: NormalForm, rates: dict[Quantity, sp.Expr]) -> sp.Expr:
    r"""Ṗ along given rates of the accumulators, DP[ȧ]."""
    return directional(form.P, rates) if rates else sp.S.Zero
