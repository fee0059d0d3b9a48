"""Section 6: dL/dt along the flow of a constant P with one critical mode is as derived, and never positive."""

from __future__ import annotations

import numpy as np

from derivations.check.claim import Claim, Evidence, Sample, agree, refute
from derivations.check.draw import require
from derivations.check.edges import edge, edges
from derivations.check.rates import weight_rate
from derivations.check.subject import CODE, Subject
from theory.symbols import Shape


def holds(subject: Subject, sample: Sample) -> Evidence:
    at, descent = edge(subject, sample, 1), subject.d.projection.descent
    if not subject.d.projection.constant or descent is None:
        refute("dL/dt for one mode, where P is a constant scalar and γ = 0", descent, "an expression")
    u, closure, g = at.U[:, 0], subject.d.complementarity, at.point[CODE["g"]]
    values = at.point | {CODE["u"]: u, CODE["v"]: u, CODE["T"]: at.T[0, 0]}
    require(abs(subject.layout.number(closure.per_X, values)) > 1e-2)
    X = subject.layout.number(closure.one_mode, values)
    measured = float(g @ weight_rate(subject, at.point, np.array([[X]]), at.T))
    derived = subject.layout.number(descent, at.point | {CODE["gradS"]: at.P * at.T[0, 0]})
    if derived > 1e-9 * abs(measured):
        refute("the loss falls along the central flow", derived, "≤ 0")
    size = float((g**2 / at.P).sum()) * max(1.0, abs(X))
    return Evidence(agree("dL/dt", derived, measured, 1e-8, size))


def missing(subject: Subject) -> str | None:
    form = subject.d.normal_form
    moving = form.P.free_symbols & set(form.accumulators)
    return None if form.shape is Shape.SCALAR and form.gamma == 0 and not moving else "P moves, or γ ≠ 0"


CLAIM = Claim("the loss falls along the central flow as derived", "section 6", 6, edges, holds, 20, missing)
