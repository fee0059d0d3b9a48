"""Section 3: the optional cross term is the averaged update's change with the mean gradient's shift ½∇⟨H,Σ⟩."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.claims import implicit_step
from derivations.check.oscillations import average_update, oscillations
from derivations.check.rates import accumulator_rates, implicit
from derivations.check.subject import CODE, Subject

SMALL = 1e-3
TOLERANCE = 1e-6  # central differences


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return oscillations(subject, q=draw.vectors(subject.layout.n))


def holds(subject: Subject, sample: Sample) -> Evidence:
    before, g, q, flow = subject.accumulated(sample), sample["g"], sample["q"], subject.d.flow
    up, down = (average_update(subject, sample["hyper"], before, g + s * q / 2, []) for s in (SMALL, -SMALL))
    point = subject.point(sample["hyper"], subject.ahead(sample["hyper"], before), g=g) | {CODE["q"]: q}
    accumulator_rates(subject, point)  # which discards what has no memory
    cross = {str(a): subject.layout.evaluate(e.xreplace(flow.settle), point) for a, e in flow.a_cross.items()}
    change = implicit(subject, point, cross)
    errors = []
    for n in subject.driven:
        slope = (up[n] - down[n]) / (2 * SMALL)
        errors.append(agree(f"change of {n} with the mean gradient", change[n], slope, TOLERANCE, 1e-3))
    return Evidence(max(errors))


CLAIM = Claim(
    "the cross term is the update's change with ½∇⟨H,Σ⟩", "(T5), (T7)", 4, inputs, holds, 20, implicit_step.missing
)
