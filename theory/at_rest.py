r"""Source of the preconditioner's fixed point for the stationary flow (THEORY section 7), beside the functions of `emit`.

``accumulators_at_rest(a, P)`` are the accumulators ψ⁻¹(P) a long time after the start, when bias corrections have died out. Where
(T14) is the program of P = (√ν + ε)/η, ``program()`` is its (η, ε); for a scalar P, ``free_preconditioner(g)`` is where it rests without
oscillation and ``slope(P, g)`` is Φ′(P), which the oscillation balances: Φ′ = λ*² tr Σ (T13).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import sympy as sp

from theory.calculus import is_zero
from theory.codegen import EmittedRule, emit_function
from theory.errors import RuleRefused
from theory.fixed_point import FixedPoint
from theory.symbols import Quantity, S, Shape, g

if TYPE_CHECKING:
    from theory.derivation import Derivation

# The step counter after a long time: every decay b^t that is not 1 has died out.
LONG = 10**12


def emit_at_rest(d: Derivation) -> EmittedRule:
    """Emit a rule with the functions of its preconditioner's fixed point.

    Args:
        d: the derivation.

    Returns:
        The emitted rule with more functions.

    Raises:
        RuleRefused: If there is no fixed point, or none that a solver covers, with the reason.
    """
    fixed = d.fixed_point
    if fixed.status not in {"program", "scalar"} or fixed.p is None or fixed.inverse is None:
        raise RuleRefused(f"the rule {d.rule.name!r} has no stationary flow: {fixed.reason}")
    if d.update.schedules:
        name = next(iter(d.update.schedules))
        raise RuleRefused(
            f"the rule {d.rule.name!r} has no stationary flow while {name} varies in time: its fixed point moves; give {name} as a number."
        )
    p, inverse = fixed.p, fixed.inverse
    functions = _scalar(fixed, p) if fixed.status == "scalar" else [_program(d.rule.name, fixed, p, inverse)]
    source = "\n\n".join([d.emitted.source.rstrip("\n"), _accumulators(d, p, inverse), *functions]) + "\n"
    return replace(d.emitted, source=source)


def _accumulators(d: Derivation, p: Quantity, inverse: sp.Expr) -> str:
    def at_rest(a: Quantity) -> sp.Expr:
        if d.update.states[str(a)].counter:
            return sp.Integer(LONG)
        return inverse if d.preconditioner.has(a) else a

    a = list(d.normal_form.accumulators)
    results = [(at_rest(s), s.shape) for s in a]
    return emit_function("accumulators_at_rest", ("a", "P_rest"), {"a": a, "P_rest": [p]}, results)


def _program(rule: str, fixed: FixedPoint, p: Quantity, inverse: sp.Expr) -> str:
    """η and ε, where ψ⁻¹(P) = (ηP − ε)² and Φ′ = (ψ⁻¹(P) − g²)/P².

    Raises:
        RuleRefused: If the rule's program is another one.
    """
    inverse = sp.expand(inverse)
    square, twice, constant = (sp.factor(inverse.coeff(p, k)) for k in (2, 1, 0))
    rest = inverse - square * p**2 - twice * p - constant
    published = (inverse - g**2) / p**2
    if not all(map(is_zero, (fixed.objective_prime - published, rest, twice**2 - 4 * square * constant))):
        raise RuleRefused(
            f"the rule {rule!r} has no stationary flow: its program has Φ′ = {fixed.objective_prime}, and the solver covers "
            "((ηP − ε)² − g²)/P² only."
        )
    return emit_function("program", (), {}, [(sp.sqrt(square), Shape.SCALAR), (sp.sqrt(constant), Shape.SCALAR)])


def _scalar(fixed: FixedPoint, p: Quantity) -> list[str]:
    assert fixed.solution is not None, "a scalar fixed point is solved"
    free = [e for e in fixed.solution.args if not e.has(S)]
    return [
        emit_function("free_preconditioner", ("g",), {}, [(free[0], Shape.SCALAR)], single=True),
        emit_function("slope", ("P_rest", "g"), {"P_rest": [p]}, [(fixed.objective_prime, Shape.SCALAR)], single=True),
    ]
