r"""Expressions that depend on the step counter: decays b^t, their value after a long time, and values at chosen steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import sympy as sp

from theory.rule import Update
from theory.symbols import g

if TYPE_CHECKING:
    from theory.normal_form import NormalForm

# Steps at which what depends on time is looked at.
MOMENTS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)


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
        The limit.
    """
    (closed,), clock = without_clock(update, expr)
    clocks = {update.old(n) for n, s in update.states.items() if s.counter}
    return closed.xreplace({u: sp.S.Zero if e.free_symbols & clocks else e for u, e in clock.items()})


def moments(form: NormalForm, values: Mapping[sp.Symbol, sp.Expr]) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    """Values, at the steps `MOMENTS`, of the accumulators that see no gradient, such as the step counter.

    Args:
        form: the rule in normal form.
        values: of the hyperparameters.

    Yields:
        Number for each such accumulator.
    """
    driven = {g, *form.filters, *form.outputs.values()}
    timed = {a: f.subs(values) for a, f in form.accumulators.items() if not f.free_symbols & driven}
    advance = sp.lambdify(list(timed), list(timed.values()), "math")
    now = [form.update.states[str(a)].initial for a in timed]
    for step in range(1, MOMENTS[-1] + 1):
        now = advance(*now)
        if step in MOMENTS:
            yield {a: sp.nsimplify(v, rational=True) for a, v in zip(timed, now, strict=True)}
