"""(T2): the optimizer on a quadratic is stable just below λ*, and unstable just above, by its exact Jacobian."""

from __future__ import annotations

from hypothesis import assume

from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.numbers import Array
from derivations.check.quadratics import hessian, quadratics, radius
from derivations.check.subject import Subject

NEAR = 1e-4
ROUND_OFF = 1e-9


def holds(subject: Subject, sample: Sample) -> Evidence:
    subject.certified(sample["hyper"])
    a = subject.accumulated(sample)
    point = subject.point(sample["hyper"], a)
    P, threshold = subject.preconditioner(point), subject.threshold(point)
    decay = subject.layout.number(subject.d.normal_form.gamma, point)
    assume(0 <= decay < 0.9)
    frozen = subject.frozen(sample["hyper"], a)
    for side in (1 - NEAR, 1 + NEAR):
        eigenvalues = [side * threshold, *(f * threshold for f in sample["fractions"][1:])]
        size = radius(frozen.jacobian(hessian(P, sample["basis"], eigenvalues)))
        if (size >= 1 + ROUND_OFF) if side < 1 else (size <= 1 - ROUND_OFF):
            refute(
                f"spectral radius of the step's Jacobian at λ = {side:.4f} λ*, λ* = {threshold:.6g}",
                "< 1" if side < 1 else "> 1",
                size,
            )
    return Evidence(_crossing(subject, sample, threshold, P))


def _crossing(subject: Subject, sample: Sample, threshold: float, P: Array) -> float:
    """Relative distance of λ* from where the measured spectral radius passes 1, by bisection."""
    frozen = subject.frozen(sample["hyper"], subject.accumulated(sample))
    low, high = 1 - NEAR, 1 + NEAR
    for _ in range(20):
        middle = (low + high) / 2
        size = radius(
            frozen.jacobian(
                hessian(P, sample["basis"], [middle * threshold] + [0.5 * threshold] * (subject.layout.n - 1))
            )
        )
        low, high = (middle, high) if size < 1 else (low, middle)
    return abs(low - 1)


CLAIM = Claim("λ* is where the step's Jacobian passes spectral radius 1", "(T2)", 2, quadratics, holds, 40)
