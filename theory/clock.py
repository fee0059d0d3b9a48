r"""Clocks: states that no gradient reaches, such as the step counter; decays b^t, values after a long time and at chosen steps.

A clock's value in every step is known beforehand, so that it advances exactly, in the flow as in the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import sympy as sp

from theory.rule import Update
from theory.symbols import Quantity

if TYPE_CHECKING:
    from theory.normal_form import NormalForm

# Steps at which what depends on time is looked at.
MOMENTS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)


def clocks_of(update: Update) -> list[str]:
    """Names of the states whose next values depend on hyperparameters and on one another only.

    Args:
        update: the recorded step.

    Returns:
        The names, in the rule's order.
    """
    found = list(update.states)
    known = set(update.hyper.values())
    while True:
        inside = known | {s for n in found for s in (update.old(n), update.new(n))}
        kept = [e.state for e in update.equations if e.state in found and e.expr.free_symbols <= inside]
        if len(kept) == len(found):
            return [n for n in update.states if n in found]
        found = kept


def advanced(update: Update) -> dict[Quantity, sp.Expr]:
    """Each clock's updated symbol as a function of the clocks before the step."""
    names, done = clocks_of(update), dict[Quantity, sp.Expr]()
    for equation in update.equations:
        if equation.state in names:
            done[update.new(equation.state)] = equation.expr.xreplace(done)
    return done


def undone(update: Update) -> dict[Quantity, sp.Expr]:
    """Clocks before the step in terms of the updated ones, as far as their updates are affine: t⁺ − 1 for the counter t."""
    names, back = clocks_of(update), dict[Quantity, sp.Expr]()
    for equation in update.equations:
        if equation.state not in names:
            continue
        old, expr = update.old(equation.state), equation.expr.xreplace(back)
        slope = sp.diff(expr, old)
        if slope != 0 and not slope.has(old):
            back[old] = (update.new(equation.state) - expr.xreplace({old: sp.S.Zero})) / slope
    return back


def without_clock(update: Update, *exprs: sp.Expr) -> tuple[list[sp.Expr], dict[sp.Symbol, sp.Expr]]:
    """Write b^(t + k) as b^(1 + k)·u with u = b^(t − 1) in (0, 1], for every decay b, so that t does not appear.

    Args:
        update: the recorded step, whose counters are t.
        *exprs: expressions in them.

    Returns:
        The expressions in u0, u1, …, and what each stands for.
    """
    clocks = {update.old(n) for n, s in update.states.items() if s.counter}
    powers = sorted({p for e in exprs for p in e.atoms(sp.Pow) if _decays(p, clocks)}, key=str)
    fresh: dict[tuple[sp.Expr, sp.Expr], sp.Symbol] = {}
    clock: dict[sp.Symbol, sp.Expr] = {}
    back: dict[sp.Expr, sp.Expr] = {}
    for power in powers:
        if power.base.is_Number:  # SymPy splits 0.96^(a + b) into powers of primes: hold it as one number
            back[power] = fresh.setdefault((power, sp.S.One), sp.Symbol(f"u{len(fresh)}", positive=True))
            clock[back[power]] = power
            continue
        t = next(iter(power.exp.free_symbols & clocks))
        rate = sp.diff(power.exp, t)
        u = fresh.setdefault((power.base, rate), sp.Symbol(f"u{len(fresh)}", positive=True))
        clock[u] = power.base ** (rate * (t - 1))
        back[power] = u * power.base ** sp.expand(power.exp - rate * (t - 1))
    return [e.xreplace(back) for e in exprs], clock


def _decays(power: sp.Pow, clocks: set[sp.Symbol]) -> bool:
    return bool(power.exp.free_symbols & clocks or (power.base.is_Number and power.exp.free_symbols))


def after_long(update: Update, expr: sp.Expr) -> sp.Expr:
    """The limit t → ∞ of an expression in which the counter appears through decays b^t with b < 1 only.

    Args:
        update: the recorded step.
        expr: the expression.

    Returns:
        The limit; a clock that does not settle stays.
    """
    return _without_decays(update, expr).xreplace(_settled(update, expr))


def _without_decays(update: Update, expr: sp.Expr) -> sp.Expr:
    (closed,), clock = without_clock(update, expr)
    clocks = {update.old(n) for n, s in update.states.items() if s.counter}
    return closed.xreplace({u: sp.S.Zero if e.free_symbols & clocks else e for u, e in clock.items()})


def _settled(update: Update, expr: sp.Expr) -> dict[Quantity, sp.Expr]:
    """Rest of each clock c of an expression whose update becomes c ← ac + b with |a| < 1."""
    rest: dict[Quantity, sp.Expr] = {}
    for new, exact in advanced(update).items():
        c = update.old(new.name.removesuffix("_next"))
        late = _without_decays(update, exact) if c in expr.free_symbols else c
        slope = sp.diff(late, c)
        if not slope.has(c) and _contracts(update, slope):
            rest[c] = sp.factor(late.xreplace({c: sp.S.Zero}) / (1 - slope))
    return rest


def _contracts(update: Update, slope: sp.Expr) -> bool:
    """Whether |slope| < 1 for all hyperparameters: those in [0, 1) are written x/(1 + x), so that SymPy sees the signs."""
    domains = {s: update.rule.hyper[n].domain for n, s in update.hyper.items()}
    bounded = {s: sp.Dummy(nonnegative=True) for s, d in domains.items() if (d.lower, d.upper) == (0, 1)}
    there = slope.xreplace({s: x / (1 + x) for s, x in bounded.items()})
    return all(sp.factor(e).is_positive for e in (1 - there, 1 + there))


def moments(
    form: NormalForm, values: Mapping[sp.Symbol, sp.Expr], steps: Sequence[int] = MOMENTS
) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    """Values of the clocks in some steps.

    Args:
        form: the rule in normal form.
        values: of the hyperparameters.
        steps: in which they are looked at, rising.

    Yields:
        Number for each clock.
    """
    timed = {c: form.accumulators[c].subs(values) for c in form.clocks}
    advance = sp.lambdify(list(timed), list(timed.values()), "math")
    now = [form.update.states[str(a)].initial for a in timed]
    for step in range(1, steps[-1] + 1):
        now = advance(*now)
        if step in steps:
            yield {a: sp.nsimplify(v, rational=True) for a, v in zip(timed, now, strict=True)}
