"""Section 1: the accumulators' map f(a, g, m) is the optimizer's update."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.subject import Subject


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "g": draw.vectors(subject.layout.n),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    form, g = subject.d.normal_form, sample["g"]
    states = subject.states(sample["states"])
    w = 0 * g
    _, after = subject.optimizer(sample["hyper"]).step(w, g, states)
    unit = {
        n: (
            states[n] * subject.frozen(sample["hyper"], states).scale(n, states),
            after[n] * subject.frozen(sample["hyper"], after).scale(n, after),
        )
        for n in subject.filters
    }
    before = {n: states[n] for n in subject.accumulators}
    start, point = (subject.point(sample["hyper"], a, g=g) for a in (before, subject.ahead(sample["hyper"], before)))
    for m, output in form.outputs.items():
        point |= {m: unit[str(m)][0], output: unit[str(m)][1]}
    errors = [
        agree(f"the next value of {a}", subject.layout.evaluate(f, start if a in form.clocks else point), after[str(a)])
        for a, f in form.accumulators.items()
    ]
    return Evidence(max(errors))


CLAIM = Claim(
    "the accumulators' map is the optimizer's",
    "section 1",
    1,
    inputs,
    holds,
    20,
    lambda subject: None if subject.accumulators else "no accumulators",
)
