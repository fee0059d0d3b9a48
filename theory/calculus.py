r"""Calculus in R^n on generic coordinates: directional derivatives that see through reductions.

A vector x enters by its generic coordinate x_i. Moving x along d means x → x + ε d in that coordinate, inside reductions
too, so the derivative along d of any expression is d/dε at ε = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sympy as sp

from theory.symbols import Node, epsilon

Directions = Mapping[sp.Symbol, sp.Expr]


def displaced(expr: sp.Expr, directions: Directions) -> sp.Expr:
    """Expression at the point moved by ε along the given directions."""
    return expr.xreplace({s: s + epsilon * d for s, d in directions.items()})


def directional(expr: sp.Expr, directions: Directions, order: int = 1) -> sp.Expr:
    r"""Derivative of the given order along directions, D^order expr[d, …, d]."""
    return sp.diff(displaced(expr, directions), epsilon, order).subs(epsilon, 0).doit()


def second(expr: sp.Expr, first: Directions, other: Directions) -> sp.Expr:
    r"""Polarised second derivative D² expr[d, d'], symmetric and bilinear in the two directions."""
    return directional(directional(expr, first), other)


def opaquely(transform: Callable[..., sp.Expr], expr: sp.Expr, *args: sp.Expr) -> sp.Expr:
    """Apply a SymPy transformation with nodes held as opaque numbers.

    SymPy's simplifiers swap symbols for plain dummies, which have no shape: a reduction must not see them.
    """
    opaque = {r: sp.Dummy(str(r), real=True, positive=r.is_positive) for r in expr.atoms(Node)}
    back = {d: r for r, d in opaque.items()}
    result = transform(expr.subs(opaque), *args)
    return [e.subs(back) for e in result] if isinstance(result, list) else result.subs(back)


def simplify(expr: sp.Expr) -> sp.Expr:
    """Simplify, with reductions held as opaque numbers."""
    return opaquely(sp.simplify, expr)


def rationally(transform: Callable[[sp.Expr], sp.Expr], expr: sp.Expr) -> sp.Expr:
    """Apply a transformation of rational expressions, with roots, and powers b^t of whatever base, held as opaque numbers.

    b^(t + k) becomes b^k·(b^t) first, so that different times meet in one unknown.
    """
    back: dict[sp.Symbol, sp.Expr] = {}
    fresh: dict[sp.Expr, sp.Symbol] = {}

    def hold(p: sp.Pow) -> sp.Expr:
        shift, rest = p.exp.as_coeff_Add() if not p.base.is_Number else (sp.S.Zero, p.exp)
        core = p.base**rest
        held = fresh.setdefault(core, sp.Dummy(str(core), positive=True))
        back[held] = core
        return held * p.base**shift

    def is_opaque(e: sp.Basic) -> bool:
        return bool(e.is_Pow and not e.exp.is_Integer)

    result = opaquely(transform, sp.sympify(expr).replace(is_opaque, hold))
    while result.free_symbols & set(back):
        result = result.xreplace(back)
    return result


def solve(expr: sp.Expr, unknown: sp.Symbol) -> list[sp.Expr]:
    """Solutions of expr = 0 for one unknown, with reductions held as opaque numbers."""
    return opaquely(sp.solve, expr, unknown)


def is_zero(expr: sp.Expr) -> bool:
    """Whether an expression simplifies to zero exactly."""
    return bool(expr == 0 or (not _differs_somewhere(expr) and (sp.expand(expr) == 0 or simplify(expr) == 0)))


def _differs_somewhere(expr: sp.Expr) -> bool:
    """Whether an expression is seen not to vanish at one point, all unknowns and reductions in (0.2, 0.8); spares the proof that it does not."""
    held = sp.sympify(expr).xreplace({r: sp.Dummy(str(r)) for r in sp.sympify(expr).atoms(Node)})
    symbols = sorted(held.free_symbols, key=str)
    point = {s: sp.Rational(20 + (37 * k + 11) % 61, 100) for k, s in enumerate(symbols)}
    value = sp.N(held.xreplace(point), 20)
    return bool(value.is_number and value.is_finite and abs(value) > sp.Float("1e-12"))


def is_linear(expr: sp.Expr, variables: list[sp.Symbol], probes: list[sp.Symbol]) -> bool:
    """Whether an expression is homogeneous linear, jointly, in the variables (probes are fresh directions for them)."""
    along = dict(zip(variables, probes, strict=True))
    at_zero = expr.xreplace(dict.fromkeys(variables, sp.S.Zero))
    return is_zero(at_zero) and is_zero(directional(expr, along) - expr.xreplace(along))
