"""Everything derived for a rule, by name, and whether two derivations say the same."""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from typing import Any

import sympy as sp

from theory import Derivation, RuleRefused
from theory.calculus import is_zero
from theory.symbols import z

# Hyperparameters at which derivations are asked whether a flip comes first.
GRID = 40
NUMBERS = (0.0, 0.1, 0.4, 0.5, 0.7, 0.9)
FIXED_POINT = (
    "status",
    "threshold",
    "p",
    "stationary",
    "inverse",
    "objective",
    "objective_prime",
    "convexity",
    "lower",
)
FIXED_POINT += ("domain", "convex", "solution")
FORM = "form"
"""Results that may be written in several ways: a polynomial, conditions and code up to what does not matter, and the extent of a proof."""


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether all results are identical, whatever their form."""
    return before | {FORM: None} == after | {FORM: None}


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of results that are not symbolically identical."""
    names = [n for n in {**before, **after} if n != FORM]
    return [n for n in names if n not in before or n not in after or not _same(before[n], after[n])]


def _same(x: Any, y: Any) -> bool:
    if x == y:
        return True
    if isinstance(x, sp.Expr) and isinstance(y, sp.Expr):
        return is_zero(x - y)
    return False


def results(d: Derivation) -> dict[str, Any]:
    """Everything derived, by name: expressions, code, and at which numbers a flip is certified to come first."""
    form, stab, flow, closure = d.normal_form, d.stability, d.flow, d.complementarity
    found: dict[str, Any] = {
        "P": form.P,
        "gamma": form.gamma,
        "drive": form.drive,
        "F": form.transfer,
        "shape": form.shape,
    }
    found |= {"feedthrough": form.feedthrough, "lag": form.lag, "pole start": form.pole_start}
    found |= {"polynomial": _monic(d), "conditions": _conditions(d), "threshold": stab.threshold}
    found |= {"w stable": flow.w_stable, "w X": flow.w_X, "w average": flow.w_average, "memory": flow.memory}
    found |= {f"jacobian {k}": e for k, e in enumerate(flow.jacobian)}
    found |= {
        "margin": closure.stable,
        "margin per X": closure.per_X,
        "one mode": closure.one_mode,
        "variance": closure.variance,
    }
    found |= {"ripple threshold": d.ripple.threshold, "ripple drift": d.ripple.drift}
    found |= {"penalty": d.modified_flow.penalty, "constant": d.projection.constant, "descent": d.projection.descent}
    found |= {f"fixed point {n}": getattr(d.fixed_point, n) for n in FIXED_POINT}
    tables = {
        "filter": form.filters,
        "accumulator": form.accumulators,
        "gain": form.gains,
        "scale": form.scales,
        "output": form.outputs,
        "at 1": form.at_gain(1),
        "at -1": form.at_gain(-1),
        "mean": d.averages.mean,
        "oscillation": d.averages.oscillation,
        "cross": d.averages.cross,
        "settle": d.averages.settle,
        "rate": flow.a_stable,
        "rate X": flow.a_X,
        "rate cross": flow.a_cross,
        "central": d.central_flow,
        "stable": d.stable_flow,
        "edge": closure.at_edge,
    }
    for name, table in tables.items():
        found |= {f"{name} {s}": e for s, e in table.items()}
    # A proof that is lost is no error: the flip is then certified at numbers.
    failed = [claim for step in d.steps for claim, held in (step.checks or {}).items() if not held]
    return found | {
        "failed checks": failed,
        FORM: (stab.polynomial, stab.conditions, stab.proved, d.emitted.source),
        "code": functions_of(d.emitted.source),
        "reads filters": d.emitted.reads_filters,
        "certified": _certified(d),
    }


def functions_of(source: str) -> dict[str, str]:
    """What running emitted source defines, by name."""
    return {f.name: ast.unparse(f) for f in ast.parse(source).body if isinstance(f, ast.FunctionDef)}


def _conditions(d: Derivation) -> tuple[bool, ...]:
    """Where all conditions are positive: they are determined up to positive factors, and only all together."""
    found = _at_points(d, d.stability.conditions)
    return tuple(all(value > 0 for value in values) for values in found)


def _monic(d: Derivation) -> tuple[tuple[str, ...], ...]:
    """The characteristic polynomial's coefficients over the leading one, which is free; exact division may take for ever."""
    found = _at_points(d, sp.Poly(d.stability.polynomial, z).all_coeffs())
    return tuple(tuple(f"{sp.re(value / values[0]):.10e}" for value in values) for values in found)


def _at_points(d: Derivation, expressions: Sequence[sp.Expr]) -> list[list[sp.Expr]]:
    """Values at random hyperparameters, and at whole clocks."""
    clocks = {d.update.old(n) for n, s in d.update.states.items() if s.counter}
    written = [e.xreplace(d.stability.clock) for e in expressions]
    symbols = sorted(set().union(clocks, *(e.free_symbols for e in written)), key=str)
    rng = random.Random(0)
    points = [{s: sp.Rational(rng.randint(1, 99), 1 if s in clocks else 100) for s in symbols} for _ in range(GRID)]
    return [[e.subs(point).evalf() for e in written] for point in points]


def _certified(d: Derivation) -> tuple[bool, ...]:
    outcomes = []
    for x in NUMBERS:
        hyper = {n: x if h.domain.upper == 1 else 0.3 for n, h in d.rule.hyper.items()}
        try:
            d.certify(hyper)
            outcomes.append(True)
        except RuleRefused:
            outcomes.append(False)
    return tuple(outcomes)
