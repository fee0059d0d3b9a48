"""(T13): a P without accumulators is constant; where one that decays moves it, and stands in it once, the fixed point is derived.

It needs no accumulator's value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.subject import Subject
from theory.symbols import Quantity, Reduction

RESULTS = ("threshold", "stationary", "inverse", "objective", "objective_prime", "convexity", "lower", "solution")


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject, first=2),
        "g": draw.nonzero(subject.layout.n),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    fixed, a = subject.d.fixed_point, _single(subject)
    moves = any(subject.d.preconditioner.has(subject.d.update.old(n)) for n in subject.driven)
    if (fixed.status == "constant") is moves:
        refute("whether P is constant", fixed.status, "one that moves" if moves else "constant")
    if a is None or not _decays(subject, sample, str(a)):
        return Evidence()
    if fixed.status in {"none", "constant", "uncovered"}:
        refute(f"a fixed point of P, which {a} alone moves", fixed.reason, "an equation at rest")
    for name in RESULTS if fixed.status != "matrix" else ():  # whose equation is written in V
        expr = getattr(fixed, name)
        if isinstance(expr, sp.Expr) and a in expr.free_symbols:
            refute(f"the {name} at rest depends on {a}, which settles", expr, f"no {a}")
    return Evidence()


def _single(subject: Subject) -> Quantity | None:
    """The only accumulator of P that is no counter, if P has its shape, reads no sums, and has it in one place."""
    form = subject.d.normal_form
    moving = [a for a in form.accumulators if form.P.has(a) and str(a) not in subject.counters]
    if len(moving) != 1 or form.shape is not moving[0].shape or form.P.has(Reduction):
        return None
    places = sum(e == moving[0] for e in sp.preorder_traversal(form.P))
    return moving[0] if places == 1 else None


def _decays(subject: Subject, sample: Sample, name: str) -> bool:
    """Whether the optimizer's next value is an affine function of the old one with a slope in (0, 1), and P grows with it."""
    a, g, optimizer = subject.accumulated(sample), sample["g"], subject.optimizer(sample["hyper"])
    rest = {m: np.zeros(subject.layout.n) for m in subject.filters}
    ends = [
        optimizer.step(0 * g, g, a | rest | {name: k * np.ones(subject.layout.n)})[1][name] for k in (1.0, 2.0, 3.0)
    ]
    slopes = np.array([ends[1] - ends[0], ends[2] - ends[1]])
    low, high = (
        subject.layout.evaluate(subject.d.preconditioner, subject.point(sample["hyper"], a | {name: k + 0 * g}))
        for k in (1.0, 2.0)
    )
    affine = np.allclose(slopes[0], slopes[1], atol=1e-9)
    return bool(affine and (slopes > 1e-6).all() and (slopes < 1 - 1e-6).all() and (high > low).all())


CLAIM = Claim("a fixed point is derived where one average moves P", "(T13)", 7, inputs, holds, 10)
