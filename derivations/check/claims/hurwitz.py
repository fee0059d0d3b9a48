"""Section 2: the printed conditions are all positive exactly where the step is stable, x = λ/λ* in (0, 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from hypothesis import assume
from hypothesis import strategies as st

from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.quadratics import hessian, quadratics, radius
from derivations.check.subject import Subject

MARGIN = 1e-6  # of the spectral radius: conditions change sign there


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return quadratics(subject, x=st.integers(1, 99).map(lambda k: k / 100))


def holds(subject: Subject, sample: Sample) -> Evidence:
    a = subject.accumulated(sample)
    point = subject.point(sample["hyper"], a)
    P, threshold = subject.preconditioner(point), subject.threshold(point)
    lam = sample["x"] * threshold
    size = radius(subject.frozen(sample["hyper"], a).jacobian(hessian(P, sample["basis"], [lam] * subject.layout.n)))
    assume(abs(size - 1) > MARGIN)
    values = [
        subject.layout.number(c.xreplace(subject.d.stability.clock), _with_x(c, point, sample["x"]))
        for c in subject.d.stability.conditions
    ]
    positive = all(v > 0 for v in values)
    if positive != (size < 1):
        refute(
            f"all conditions are {'' if positive else 'not '}positive at x = {sample['x']}",
            np.array(values),
            f"spectral radius {size:.6g}",
        )
    return Evidence()


def _with_x(condition: sp.Expr, point: dict[sp.Symbol, Any], x: float) -> dict[sp.Symbol, Any]:
    return point | {s: x for s in condition.free_symbols if s.name == "x"}


CLAIM = Claim("the Hurwitz conditions are positive exactly where the step is stable", "section 2", 2, inputs, holds, 40)
