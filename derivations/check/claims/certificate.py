"""Section 2: where a flip is certified to come first no root is outside the disc below λ*; where it is refused one is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.numbers import Array
from derivations.check.quadratics import hessian, quadratics, radius
from derivations.check.subject import Subject
from theory import RuleRefused

GRID = (0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
FINE = tuple(np.linspace(0.002, 0.998, 250))
STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)
ROUND_OFF = 1e-7


def holds(subject: Subject, sample: Sample) -> Evidence:
    a = subject.accumulated(sample)
    try:
        subject.d.certify(dict(sample["hyper"]))
    except RuleRefused as refusal:
        states = [a | {n: subject.layout.vector(t) for n in subject.counters} for t in STEPS]
        if all(
            _largest(subject, sample["hyper"], s, FINE) < 1 - ROUND_OFF
            for s in states[: len(STEPS) if subject.counters else 1]
        ):
            refute(
                "the derivation refuses these hyperparameters, but all modes below λ* are stable",
                str(refusal),
                "stable",
            )
        return Evidence()
    size = _largest(subject, sample["hyper"], a, GRID)
    if size > 1 + ROUND_OFF:
        refute("spectral radius at some λ < λ*, where a flip is certified to come first", "< 1", size)
    return Evidence(max(0.0, size - 1))


def _largest(subject: Subject, hyper: Mapping[str, float], a: dict[str, Array], grid: tuple[float, ...]) -> float:
    """Largest spectral radius over fractions of λ*."""
    point = subject.point(hyper, a)
    P, threshold = subject.preconditioner(point), subject.threshold(point)
    frozen, eye = subject.frozen(hyper, a), np.eye(subject.layout.n)
    return max(radius(frozen.jacobian(hessian(P, eye, [x * threshold] * subject.layout.n))) for x in grid)


CLAIM = Claim("the flip comes first exactly where that is certified", "section 2", 2, quadratics, holds, 20)
