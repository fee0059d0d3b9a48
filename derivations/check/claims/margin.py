"""(T10): the rate of one critical mode's margin, without and with oscillation, and the X that keeps it."""

from __future__ import annotations

import numpy as np

from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.draw import require
from derivations.check.edges import edge, edges
from derivations.check.subject import CODE, Subject

TOLERANCE = 1e-5  # central differences


def holds(subject: Subject, sample: Sample) -> Evidence:
    at = edge(subject, sample, 1)
    u, closure = at.U[:, 0], subject.d.complementarity
    values = at.point | {CODE["u"]: u, CODE["v"]: u, CODE["T"]: at.T[0, 0]}
    stable, per_X = (subject.layout.number(e, values) for e in (closure.stable, closure.per_X))
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    still, pushed = at.margin_rate(zero)[0, 0], at.margin_rate(one)[0, 0]
    size = max(1.0, abs(still), abs(pushed))
    errors = [agree("rate of the margin at X = 0", stable, still, TOLERANCE, size)]
    errors.append(agree("its change per unit of X", per_X, pushed - still, TOLERANCE, size))
    require(abs(per_X) > 1e-2)
    X = subject.layout.number(closure.one_mode, values)
    require(abs(X) < 1e3)
    kept = at.margin_rate(np.array([[X]]))[0, 0]
    errors.append(agree("rate of the margin at the X that keeps it", 0.0, kept, TOLERANCE, size * max(1.0, abs(X))))
    return Evidence(max(errors))


CLAIM = Claim("the margin of one mode moves as derived, and X keeps it", "(T10)", 5, edges, holds, 30)
