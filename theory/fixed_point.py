r"""Where the preconditioner settles if w is held (THEORY section 7): (T13), and the program (T14) that it solves.

An accumulator at rest balances its own decay against E[g²] = g² + (HΣH)_ii, and at the edge (HΣH)_ii = λ*²P_i²Σ_ii (T5). Solved
for the oscillation this is (HΣH)_ii = N(p) with N(p) = (ψ⁻¹(p) − A)/B: P = ψ(a), A what the mean gradient contributes,
B the gain of the oscillation. Φ′ = N/p² makes it the stationarity of min ∑Φ(p) subject to H ⪯ λ*P. For one p per
parameter tensor, or one in all, (HΣH)_ii and Σ_ii are sums over its coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import sympy as sp

from theory.averaging import Averages, as_variance
from theory.calculus import is_zero
from theory.clock import without_clock
from theory.declarations import Hyper, State
from theory.flow import Flow
from theory.matrices import Outer
from theory.matrix_fixed_point import eigenvalue, matrix_rest
from theory.normal_form import NormalForm
from theory.rule import Update
from theory.stability import Stability, is_positive
from theory.symbols import (
    HSH,
    BlockTotal,
    HSH_matrix,
    P_matrix,
    Quantity,
    Reduction,
    S,
    Shape,
    Sigma,
    Total,
    g,
    quantity,
)

Status = Literal["program", "scalar", "matrix", "none", "constant", "uncovered"]
_SUMS: dict[Shape, Callable[[sp.Expr], sp.Expr]] = {Shape.SCALAR: Total, Shape.BLOCK: BlockTotal}
_REST = sp.Dummy("r", nonnegative=True)


@dataclass(frozen=True)
class FixedPoint:
    """What the preconditioner settles at, and what SymPy verified of it, claim → outcome.

    ``stationary`` vanishes there, in p and Σ; ``inverse`` is ψ⁻¹(p), ``objective`` Φ, ``objective_prime`` Φ′, ``convexity`` Φ″, ``lower`` the
    least p that the accumulator allows, ``convex`` whether Φ″ ≥ 0 from there up (None: not decided), ``domain`` that in words;
    ``solution`` is p where the program has a closed form, ``threshold`` λ* after a long time.
    """

    status: Status
    reason: str
    threshold: sp.Expr
    p: Quantity | None = None
    stationary: sp.Expr | None = None
    inverse: sp.Expr | None = None
    objective: sp.Expr | None = None
    objective_prime: sp.Expr | None = None
    convexity: sp.Expr | None = None
    lower: sp.Expr | None = None
    domain: str = ""
    convex: bool | None = None
    solution: sp.Expr | None = None
    checks: dict[str, bool] = field(default_factory=dict)

    def step(self, step: Callable[..., Any]) -> Any:
        """Describe as a step of the chain."""
        phi, total = (r"\varphi", "") if self.status == "matrix" else (r"\Phi", r"\sum")
        named = (
            ("at rest", "0", self.stationary),
            ("objective", r"\Phi(P)", self.objective),
            ("its derivative", rf"{phi}'(P)", self.objective_prime),
            ("convexity", rf"{phi}''(P)", self.convexity),
            ("least value", r"P_{\min}", self.lower),
            ("settled preconditioner", r"\bar P", self.solution),
        )
        constraint = (
            ("program", r"\bar P", rf"\operatorname{{argmin}}{total}\Phi(P)\ \text{{subject to}}\ H\preceq\lambda^*P"),
        )
        return step(
            "fixed_point",
            "Where the preconditioner settles",
            "(T13), (T14)",
            " ".join(part for part in (self.reason, self.domain) if part),
            tuple(e for e in named if e[2] is not None) + (constraint if self.objective is not None else ()),
            ("the parameters stay while the accumulators settle",)
            if self.status in {"program", "scalar", "matrix"}
            else (),
            self.checks or None,
        )


@dataclass(frozen=True)
class _Rest:
    """One accumulator at rest, k(A + B·N − a) = 0, and P = ψ(a); reductions are held as the opaque numbers of ``back``."""

    a: sp.Symbol
    psi: sp.Expr
    k: sp.Expr
    A: sp.Expr
    B: sp.Expr
    back: dict[sp.Expr, sp.Expr]

    def printed(self, expr: sp.Expr) -> sp.Expr:
        return expr.xreplace(self.back)


class _Uncovered(Exception):
    """One sentence: why the fixed point is not derived."""


def fixed_point(form: NormalForm, averages: Averages, flow: Flow, stab: Stability) -> FixedPoint:
    """Derive the preconditioner's fixed point, or say in one sentence why there is none or none is derived.

    Args:
        form: the rule in normal form.
        averages: of its accumulators.
        flow: its right-hand sides.
        stab: its threshold.

    Returns:
        The fixed point. Decays b^t of bias corrections are at their limit t → ∞; schedules are held at the present step.
    """
    update = form.update
    late = _after_long(update, stab.threshold)
    threshold = late if late.has(*form.clocks) else sp.factor(late)  # a schedule's value is not multiplied out
    moving = [a for a in form.accumulators if a in form.P.free_symbols and a not in form.clocks]
    if not moving:
        return FixedPoint("constant", "P does not depend on the gradient, so there is nothing to settle.", threshold)
    try:
        a = _only(moving)
        stable = _after_long(update, flow.settled(a))
        rate = stable + as_variance(_after_long(update, flow.a_X[a].xreplace(averages.settle)))
        if not stable.has(a):
            return _growth(a, rate, threshold)
        if form.shape is Shape.MATRIX:
            return _matrix_program(form, a, rate, threshold)
        return _program(_at_rest(form, a, rate), form, a, threshold)
    except _Uncovered as why:
        return FixedPoint("uncovered", str(why), threshold)


def _only(moving: list[Quantity]) -> Quantity:
    if len(moving) > 1:
        raise _Uncovered(f"P depends on several accumulators, {', '.join(map(str, moving))}, which settle jointly.")
    return moving[0]


def _after_long(update: Update, expr: sp.Expr) -> sp.Expr:
    """Limit t → ∞ of the decays b^t with b in [0, 1]; a schedule's other t stays."""
    clocks = {update.old(n) for n, s in update.states.items() if s.counter}
    decays = {s for n, s in update.hyper.items() if update.rule.hyper[n].domain.upper <= 1}
    back: dict[sp.Expr, sp.Expr] = {}
    for power in expr.atoms(sp.Pow):
        rate = sum(sp.diff(power.exp, t) for t in clocks)
        if power.base in decays and rate != 0:
            back[power] = sp.S.Zero if rate.is_positive else sp.oo
    return expr.xreplace(back)


def _growth(a: Quantity, rate: sp.Expr, threshold: sp.Expr) -> FixedPoint:
    """Prove that an accumulator without decay only grows: it is at rest only where E[g²] = 0.

    Raises:
        _Uncovered: If the sign of its rate is not provable, or it is not seen to vanish with g and Σ only.
    """
    sizes = sp.expand(rate.xreplace({Outer(g, g): g**2, HSH_matrix: HSH}))  # matrices ⪰ 0, and 0 only with g and Σ
    terms = sp.Add.make_args(sizes)
    if not all(term.is_nonnegative and term.has(g, HSH) for term in terms) or not (sizes.has(g) and sizes.has(HSH)):
        raise _Uncovered(f"the rate of {a}, {rate}, does not depend on {a} and has no provable sign.")
    reason = "There is no fixed point: the accumulator has no decay, and its rate is positive unless g = 0 and Σ = 0."
    return FixedPoint("none", reason, threshold, stationary=rate)


def _at_rest(form: NormalForm, a: Quantity, rate: sp.Expr) -> _Rest:
    """Read k, A, B and ψ off the accumulator's rate.

    Raises:
        _Uncovered: If the rate is not k(A + B·E − a), or P no increasing function of a at the same coordinate.
    """
    P, clocked = _held_after_long(form)
    if form.shape is not a.shape:
        raise _Uncovered(f"P has another shape than the accumulator {a}, so its coordinates settle jointly.")
    variance = _SUMS[a.shape](HSH) if a.shape in _SUMS else HSH
    names = {variance: sp.Dummy("N", nonnegative=True), a: sp.Dummy(str(a), nonnegative=True)}
    others = (rate.atoms(Reduction) | P.atoms(Reduction)) - {variance}
    names |= {r: sp.Dummy(str(r), real=True, nonnegative=r.is_nonnegative, positive=r.is_positive) for r in others}
    back = {d: s for s, d in names.items()} | clocked
    if any(a in r.free_symbols or r.has(HSH) for r in others):
        raise _Uncovered(f"P or the accumulator {a} reads a reduction of {a}, so its coordinates settle jointly.")
    N, state = names[variance], names[a]
    rate, psi = sp.expand(rate.xreplace(names)), P.xreplace(names)
    k, gain = -sp.diff(rate, state), sp.diff(rate, N)
    A, B = (sp.factor(e / k) for e in (rate.subs({state: 0, N: 0}), gain))
    domains = {s: form.update.rule.hyper[n] for n, s in form.update.hyper.items()}
    if {state, N} & (k.free_symbols | gain.free_symbols) or not _positive(k, domains):
        raise _Uncovered(f"the accumulator {a} is not an exponential average: its rate is {rate}.")
    if not _positive(B, domains):
        raise _Uncovered(f"the gain of the oscillation in the accumulator {a}, {B}, is not provably positive.")
    if not all(term.is_nonnegative or _positive(term, domains) for term in sp.Add.make_args(sp.expand(A))):
        raise _Uncovered(f"the mean gradient's part of the accumulator {a}, {A}, is not provably nonnegative.")
    x = sp.Dummy("x", positive=True)
    if not _positive(sp.factor(sp.diff(psi, state).subs(state, x)), domains):
        raise _Uncovered(f"P = {psi.xreplace(back)} is not provably increasing in the accumulator {a}.")
    return _Rest(state, psi, k, A, B, back)


def _held_after_long(form: NormalForm) -> tuple[sp.Expr, dict[sp.Expr, sp.Expr]]:
    """P after a long time, with a symbol for each part that still depends on clocks, and what these stand for."""
    update = form.update
    domains: dict[sp.Symbol, Hyper | State] = {s: update.rule.hyper[n] for n, s in update.hyper.items()}
    domains |= {update.old(n): s for n, s in update.states.items()}
    names: dict[sp.Expr, sp.Expr] = {}
    clocked: dict[sp.Expr, sp.Expr] = {}
    for k, expr in form.held.items():
        late = names[k] = _after_long(update, expr)
        if late.free_symbols & set(form.clocks):
            (closed,), _ = without_clock(update, late)
            names[k] = sp.Dummy(k.name, real=True, positive=is_positive(closed, domains) or None)
            clocked[names[k]] = late
    return form.held_P.xreplace(names), clocked


def _positive(expr: sp.Expr, domains: dict[sp.Symbol, Any]) -> bool:
    """Whether every factor is positive by its symbols, or for all hyperparameters inside their domains."""
    factors = sp.Mul.make_args(expr)
    hyper = sp.Mul(*[f for f in factors if f.free_symbols <= set(domains)])
    others = [f for f in factors if not f.free_symbols <= set(domains)]
    return is_positive(hyper, domains) and all(f.is_positive for f in others)


def _inverse(psi: sp.Expr, a: sp.Symbol, p: sp.Expr) -> sp.Expr:
    """Solve ψ(a) = p by undoing one operation after another; a occurs once in most rules.

    Raises:
        _Uncovered: If SymPy finds no inverse.
    """
    value = p
    while psi != a:
        inside = [e for e in psi.args if e.has(a)]
        outside = [e for e in psi.args if not e.has(a)]
        if len(inside) != 1 or not (psi.is_Add or psi.is_Mul or (psi.is_Pow and psi.base == inside[0])):
            break
        if psi.is_Pow:
            value = value ** (1 / psi.exp)
        else:
            value = value - psi.func(*outside) if psi.is_Add else value / psi.func(*outside)
        psi = inside[0]
    else:
        return value
    try:
        found = sp.solve(psi - value, a)
    except NotImplementedError:
        found = []
    if len(found) != 1:
        raise _Uncovered(f"P = {p} is not solved for the accumulator.")
    return found[0]


def _program(rest: _Rest, form: NormalForm, a: Quantity, threshold: sp.Expr) -> FixedPoint:
    """Invert ψ, integrate Φ′ = N(p)/p², decide convexity, verify the KKT system."""
    p = quantity("P", a.shape, positive=True)
    inverse = sp.factor(_inverse(rest.psi, rest.a, p))
    prime = (inverse - rest.A) / (rest.B * p**2)
    lower = sp.simplify(sp.limit(rest.psi, rest.a, 0, "+"))
    second = sp.factor(sp.diff(prime, p))
    bounded = _bounded(form)
    convex, domain = _convexity(rest, bounded, inverse, p, lower)
    objective = _integral((inverse - rest.A) / p**2, p, rest.B)
    edge = threshold**2 * (_SUMS[a.shape](Sigma) if a.shape in _SUMS else Sigma)
    derivative = prime if objective is None else sp.diff(objective, p)
    checks = _verify(rest, bounded, inverse, derivative, p, lower, edge)
    free = sp.simplify(rest.psi.subs(rest.a, rest.A))
    scalar = a.shape is Shape.SCALAR
    held = " Step sizes are held at their present value." if _scheduled(form, rest) else ""
    reason = (
        "With w held, P settles at the larger of the edge S/λ* and its value without oscillation: Φ falls below that value and rises above it."
        if scalar
        else f"With w held, P settles at {'the minimum' if convex else 'a stationary point'} of the program; its multiplier is Z = λ*Σ."
    )
    return FixedPoint(
        "scalar" if scalar else "program",
        reason + held,
        threshold,
        p,
        rest.printed(inverse - rest.A - rest.B * p**2 * edge),
        rest.printed(inverse),
        None if objective is None else rest.printed(objective),
        rest.printed(prime),
        rest.printed(second),
        rest.printed(lower),
        domain,
        convex,
        sp.Max(S / threshold, rest.printed(free), evaluate=False) if scalar else None,
        checks,
    )


def _matrix_program(form: NormalForm, a: Quantity, rate: sp.Expr, threshold: sp.Expr) -> FixedPoint:
    """Invert ψ on eigenvalues, integrate φ′ = ψ⁻¹(p)/(Bp²), decide convexity, verify the KKT system.

    Raises:
        _Uncovered: If the rate or P is not covered, or SymPy finds no inverse or integral.
    """
    domains = {s: form.update.rule.hyper[n] for n, s in form.update.hyper.items()}
    rest = matrix_rest(_after_long(form.update, form.P), a, rate, domains)
    if isinstance(rest, str):
        raise _Uncovered(rest)
    inverse = sp.factor(_inverse(rest.psi, rest.x, eigenvalue))
    lower = sp.simplify(sp.limit(rest.psi, rest.x, 0, "+"))
    phi = _integral(inverse / eigenvalue**2, eigenvalue, rest.B)
    there = rest.psi.subs(rest.x, inverse).subs(eigenvalue, lower + _REST) - lower - _REST
    if phi is None or not is_zero(sp.simplify(there)):
        raise _Uncovered(f"SymPy finds no closed form of the program for P = {rest.psi} of an eigenvalue.")
    prime = sp.factor(sp.diff(phi, eigenvalue))
    convex = rest.convex(prime, lower) or None
    return FixedPoint(
        "matrix",
        f"With w held, P settles at {'the minimum' if convex else 'a stationary point'} of the program over matrices; its multiplier is Z = λ*Σ. "
        "Functions of P act on its eigenvalues, and φ is the part of Φ without g.",
        threshold,
        P_matrix,
        rest.stationary(threshold),
        inverse,
        rest.objective(phi),
        prime,
        sp.factor(sp.diff(prime, eigenvalue)),
        lower,
        "Φ is convex where the accumulator allows P to be, with eigenvalues from the least value on."
        if convex
        else "Whether Φ is convex is not decided.",
        convex,
        None,
        {"P = ψ(ψ⁻¹(P)) for all values that the accumulator allows": True} | rest.verify(prime, inverse, threshold),
    )


def _bounded(form: NormalForm) -> dict[sp.Symbol, sp.Expr]:
    """Hyperparameters b in [0, 1) as x/(1 + x) with x ≥ 0, so that SymPy knows the sign of 1 − b."""
    domains = {s: form.update.rule.hyper[n].domain for n, s in form.update.hyper.items()}
    unit = [s for s, d in domains.items() if (d.lower, d.upper) == (0, 1)]
    return {s: (x := sp.Dummy(s.name, nonnegative=True)) / (1 + x) for s in unit}


def _scheduled(form: NormalForm, rest: _Rest) -> bool:
    return bool(rest.printed(rest.psi).free_symbols & set(form.clocks))


def _integral(prime: sp.Expr, p: sp.Symbol, gain: sp.Expr) -> sp.Expr | None:
    """Φ = ∫ prime/gain dp, or None if SymPy finds no closed form."""
    whole = sp.integrate(sp.expand(prime), p)
    if whole.has(sp.Integral):
        return None
    collected = sp.collect(sp.expand(whole), [sp.log(p), p, 1 / p], _shorter)
    return collected.xreplace({sp.log(1 / p): -sp.log(p)}) / gain


def _shorter(expr: sp.Expr) -> sp.Expr:
    return min((sp.expand(expr), sp.factor(expr)), key=lambda e: e.count_ops())


def _convexity(
    rest: _Rest, bounded: dict[sp.Symbol, sp.Expr], inverse: sp.Expr, p: sp.Symbol, lower: sp.Expr
) -> tuple[bool | None, str]:
    """Decide Φ″ ≥ 0 from ``lower`` up: at p = lower + r, with A ≥ 0 any number, p³BΦ″ must have no negative coefficient."""
    A = sp.Dummy("A", nonnegative=True)
    curved = sp.expand(sp.diff((inverse - A) / p**2, p) * p**3)
    numerator, denominator = sp.fraction(sp.factor(curved.subs(p, lower + _REST).xreplace(bounded)))
    numerator = sp.expand(numerator)
    if denominator.is_positive and all(term.is_nonnegative for term in sp.Add.make_args(numerator)):
        return True, "Φ is convex where the accumulator allows P to be, from its least value on."
    half = {s: sp.Rational(1, 2) for s in (numerator * denominator).free_symbols - {A, _REST}}
    values = [0, sp.Rational(1, 100), 1, 100]
    samples = [(numerator / denominator).subs(half).subs({A: x, _REST: y}) for x in values for y in values]
    if any(value.is_negative for value in samples):
        return False, "Φ is not convex: its second derivative changes sign, and the program may have several minima."
    return None, "Whether Φ is convex is not decided."


def _verify(
    rest: _Rest,
    bounded: dict[sp.Symbol, sp.Expr],
    inverse: sp.Expr,
    prime: sp.Expr,
    p: sp.Symbol,
    lower: sp.Expr,
    edge: sp.Expr,
) -> dict[str, bool]:
    r"""Verify ψ⁻¹ on the domain, and that ∂/∂p of ∑Φ + ⟨Z, H − λ*P⟩ at Z = λ*Σ is the accumulator's equation at rest.

    ``edge`` is λ*²Σ, with Σ summed over the coordinates that share p.

    Raises:
        _Uncovered: If SymPy does not confirm ψ(ψ⁻¹(p)) = p.
    """
    there = rest.psi.subs(rest.a, inverse).subs(p, lower + _REST) - lower - _REST
    if not is_zero(sp.simplify(_factored_roots(there.xreplace(bounded)))):
        raise _Uncovered(f"SymPy does not confirm that {rest.printed(inverse)} inverts P.")
    rate = rest.k * (rest.A + rest.B * p**2 * edge - inverse)
    kkt = rate + rest.k * rest.B * p**2 * (prime - edge)
    verified = is_zero(kkt.xreplace({r: sp.Dummy(str(r), nonnegative=True) for r in kkt.atoms(Reduction)}))
    assert verified, "the KKT system is not the accumulator's equation at rest"
    return {
        "P = ψ(ψ⁻¹(P)) for all values that the accumulator allows": True,
        "the KKT system with Z = λ*Σ is the accumulator's equation at rest": verified,
    }


def _factored_roots(expr: sp.Expr) -> sp.Expr:
    """The expression with what stands under roots factored, so that √(x² + 2xy + y²) is seen to be x + y."""
    return expr.replace(lambda e: e.is_Pow and not e.exp.is_Integer, lambda e: sp.factor(sp.expand(e.base)) ** e.exp)


__all__ = ["FixedPoint", "fixed_point"]
