"""(T13), (T14): Φ, its derivatives, ψ⁻¹ and the least P are those of the preconditioner, and Φ is convex where that is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree, refute
from derivations.check.numbers import Array
from derivations.check.subject import CODE, Subject
from theory.symbols import Shape

TOLERANCE = 1e-6  # fourth-order differences
TINY = 1e-24
SIZES = (1e-2, 0.1, 1.0, 10.0)
AFTER_LONG = 400.0  # bias corrections have died out, schedules have not


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "g": draw.vectors(subject.layout.n),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    fixed, a = subject.d.fixed_point, subject.accumulated(sample)
    a |= {n: np.full(subject.layout.n, AFTER_LONG) for n in subject.counters}
    values = subject.point(sample["hyper"], a, g=sample["g"])
    P = subject.preconditioner(values)
    draw.require(float(P.max()) < 1e6)
    values |= {fixed.p: P, CODE["P"]: P}
    (moving,) = [n for n in subject.driven if subject.d.preconditioner.has(subject.d.update.old(n))]
    errors = [agree("ψ⁻¹(P)", subject.layout.evaluate(fixed.inverse, values), a[moving], 1e-8, float(a[moving].max()))]
    least = subject.point(sample["hyper"], a | {moving: np.full(subject.layout.n, TINY)})
    smallest = subject.layout.evaluate(subject.d.preconditioner, least)
    errors += [agree("least P", subject.layout.evaluate(fixed.lower, values), smallest, 1e-5, float(P.max()))]
    errors += _derivatives(subject, values, P)
    errors += [_balance(subject, values, P)]
    curved = subject.layout.evaluate(fixed.convexity, values)
    if fixed.convex and (curved < -1e-9 * np.abs(curved).max()).any():
        refute("Φ″ ≥ 0, where Φ is said to be convex", curved, "≥ 0")
    if fixed.convex is False and not _bends_down(subject):
        refute("Φ″ changes sign, where Φ is said not to be convex", "≥ 0 at all numbers tried", "< 0 somewhere")
    return Evidence(max(errors))


def _bends_down(subject: Subject) -> bool:
    """Whether Φ″ < 0 for a gradient and a P from its least value up, all hyperparameters at ½."""
    fixed, one = subject.d.fixed_point, np.ones(subject.layout.n)
    half = dict.fromkeys(subject.d.update.hyper.values(), 0.5)
    states = {subject.d.update.old(n): AFTER_LONG * one for n in subject.accumulators}
    least = subject.layout.evaluate(fixed.lower, states | half)
    found = [
        subject.layout.evaluate(fixed.convexity, states | half | {fixed.p: P, CODE["P"]: P, CODE["g"]: x * one})
        for x in SIZES
        for P in (least + y for y in SIZES)
    ]
    return any(bool((f < 0).any()) for f in found)


def _derivatives(subject: Subject, values: dict[sp.Symbol, Any], P: Array) -> list[float]:
    """Φ′ and Φ″ against differences of Φ and Φ′."""
    fixed, errors = subject.d.fixed_point, []
    for name, above, below in (
        ("Φ′", fixed.objective, fixed.objective_prime),
        ("Φ″", fixed.objective_prime, fixed.convexity),
    ):
        if above is None:
            continue
        h = 1e-3

        def at(x: float, expr: sp.Expr = above) -> Array:
            return subject.layout.evaluate(expr, values | {fixed.p: P * (1 + x), CODE["P"]: P * (1 + x)})

        slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h * P)
        size = float((np.abs(at(0)) / P).max())
        errors.append(agree(name, subject.layout.evaluate(below, values), slope, TOLERANCE, size))
    return errors


def _balance(subject: Subject, values: dict[sp.Symbol, Any], P: Array) -> float:
    """At Σ = 0 what vanishes at rest is BP²Φ′, and Σ enters it with −BP²λ*²."""
    fixed, n = subject.d.fixed_point, subject.layout.n
    totals = {Shape.SCALAR: subject.layout.total, Shape.BLOCK: subject.layout.block_total}
    assert fixed.p is not None
    one = np.ones(n)
    summed = totals.get(fixed.p.shape, subject.layout.vector)(one)
    still, pushed = (subject.layout.evaluate(fixed.stationary, values | {CODE["Sigma"]: s * one}) for s in (0.0, 1.0))
    threshold = subject.layout.number(fixed.threshold, values)
    gain = (still - pushed) / (threshold**2 * summed)
    prime = subject.layout.evaluate(fixed.objective_prime, values)
    size = float(np.abs(still).max()) + float(np.abs(subject.layout.evaluate(fixed.inverse, values)).max())
    return agree("BP²Φ′", gain * prime, still, 1e-8, size)


def missing(subject: Subject) -> str | None:
    fixed = subject.d.fixed_point
    return None if fixed.status in {"program", "scalar"} else f"{fixed.reason}"


CLAIM = Claim("Φ and its derivatives are the preconditioner's", "(T13), (T14)", 7, inputs, holds, 20, missing)
