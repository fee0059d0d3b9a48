"""Section 5: the closed form of σ², where P is a scalar, is the X of one mode at the edge, divided by P."""

from __future__ import annotations

from derivations.check.claim import Claim, Evidence, Sample, agree, refute
from derivations.check.draw import require
from derivations.check.edges import edge, edges
from derivations.check.subject import CODE, Subject
from theory.symbols import Shape, shape_of


def holds(subject: Subject, sample: Sample) -> Evidence:
    at, closure, layout = edge(subject, sample, 1), subject.d.complementarity, subject.layout
    u, P = at.U[:, 0], float(at.P[0])
    if closure.variance is None:
        refute("a closed form of σ² for a scalar P that one accumulator moves", None, "an expression")
    for a in subject.d.normal_form.accumulators:
        if str(a) in subject.driven and closure.variance.has(a):
            refute(f"σ² depends on {a}, whose value at the edge follows from S", closure.variance, f"no {a}")
    one = at.point | {CODE["u"]: u, CODE["v"]: u, CODE["T"]: at.T[0, 0]}
    slope = layout.number(closure.per_X, one)
    require(abs(slope) > 1e-2)
    X = layout.number(closure.one_mode, one)
    require(1e-6 < abs(X) < 1e6)
    sharpness = at.threshold * P
    values = {s: v for s, v in at.point.items() if s not in closure.at_edge}
    values |= {CODE["S"]: sharpness, CODE["gradS"]: P * at.T[0, 0]}
    errors = [agree("σ²", layout.number(closure.variance, values), X / P, 1e-6)]
    for a, expr in closure.at_edge.items():
        errors.append(agree(f"{a} at the edge", layout.evaluate(expr, values), at.a[str(a)], 1e-6))
    return Evidence(max(errors))


def missing(subject: Subject) -> str | None:
    P = subject.d.normal_form.P
    moving = [a for a in subject.d.normal_form.accumulators if P.has(a)]
    return None if shape_of(P) is Shape.SCALAR and len(moving) <= 1 else "no closed form for this P"


CLAIM = Claim(
    "the closed form of σ² is the one-mode solution",
    "section 5",
    5,
    edges,
    holds,
    30,
    missing,
)
