"""Section 4: the linearly implicit steps of the accumulators' flow converge to it with order 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from derivations.check.claim import Claim, Evidence, Sample, agree_to_order
from derivations.check.draw import require
from derivations.check.numbers import Array
from derivations.check.oscillations import oscillations
from derivations.check.rates import Rates, accumulator_rates, implicit, jacobian, moved
from derivations.check.subject import Subject

STEPS = (16, 32, 64)
REFERENCE = 32
TIME = 0.5


def holds(subject: Subject, sample: Sample) -> Evidence:
    before, C = subject.accumulated(sample), sample["root_of_X"]
    X = C @ C.T

    def rates(a: Rates) -> Rates:
        return accumulator_rates(subject, subject.point(sample["hyper"], a, g=sample["g"]), X, sample["y"])

    def stepped(a: Rates, h: float) -> Rates:
        point = subject.point(sample["hyper"], a, g=sample["g"])
        return moved(a, implicit(subject, point, rates(a), h), h)

    names = subject.accumulators
    start = {n: before[n] for n in names}
    require(all(np.isfinite(r).all() for r in rates(start).values()))
    require(np.abs(jacobian(subject, subject.point(sample["hyper"], start, g=sample["g"]))).max() < 2)
    exact = _flat(_runge_kutta(rates, start))
    derived = []
    for steps in STEPS:
        a = start
        for _ in range(steps):
            a = stepped(a, TIME / steps)
        derived.append(_flat(a))
    return agree_to_order(
        "accumulators after implicit steps", derived, [exact] * len(STEPS), 1, 1e-9 * float(np.abs(exact).max())
    )


def _runge_kutta(rates: Callable[[Rates], Rates], start: Rates) -> Rates:
    a, h = start, TIME / REFERENCE
    for _ in range(REFERENCE):
        k1 = rates(a)
        k2 = rates(moved(a, k1, h / 2))
        k3 = rates(moved(a, k2, h / 2))
        k4 = rates(moved(a, k3, h))
        a = {n: v + h / 6 * (k1[n] + 2 * k2[n] + 2 * k3[n] + k4[n]) for n, v in a.items()}
    return a


def _flat(a: Rates) -> Array:
    return np.concatenate([np.ravel(v) for v in a.values()])


CLAIM = Claim(
    "implicit steps of length h converge to the flow",
    "section 4",
    4,
    oscillations,
    holds,
    6,
    lambda subject: None if subject.accumulators else "no accumulators",
)
