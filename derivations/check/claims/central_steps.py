"""(T10), (T11): steps of the central flow, as the numerics take them, keep a cubic loss inside the stable set with X ⪰ 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.numbers import Array, root
from derivations.check.quadratics import hessian
from derivations.check.rates import accumulator_rates
from derivations.check.subject import Subject

STEPS, CRITICAL, RISE = 4, 1, 0.02
"""The critical mode starts at λ*, and the numbers are scaled so that it would rise by about this fraction per step."""
EXCESS = 1e-2
"""Of λ over λ*, half a step's rise; the square of the accumulators' relative change per step is allowed beside it."""


SLOW = (18, 19)
"""Twentieths of a decay's domain: the averages are taken over accumulators that move slowly."""


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject, SLOW),
        "states": draw.states(subject, first=3),
        "g": draw.nonzero(n),
        "basis": draw.bases(n),
        "fractions": draw.fractions(n),
        "cubic": draw.cubics(n),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    from numerics.processes.process import ProcessStopped

    g, H, C, threshold = _scaled(subject, sample)
    flow = _flow(subject, sample, g, H, C)
    excess, change, before = 0.0, 0.0, flow.before
    for _ in range(STEPS):
        try:
            row = flow.step()
        except ProcessStopped:  # no covariance keeps the margin: said so, and no number returned
            assume(False)
        assume(not row["sdcp_status"])
        change = max(change, _change(subject, before, flow.before))
        before = flow.before
        top = float(np.asarray(row["eigenvalues"])[0])
        if top > (1 + EXCESS + change**2) * threshold:
            refute("the top eigenvalue of P⁻¹H stays at or below λ*", top, threshold)
        excess = max(excess, top / threshold - 1)
        variances = np.asarray(row["variances"])
        if (variances < 0).any():
            refute("variances of the oscillation are not negative", variances, "≥ 0")
    return Evidence(excess)


def _change(subject: Subject, before: Any, after: Any) -> float:
    """Largest relative change of an accumulator that sees the gradient."""
    pairs = zip(subject.accumulators, before, after, strict=True)
    changes = [_relative(np.asarray(a), np.asarray(b)) for n, a, b in pairs if n in subject.driven]
    return float(max(changes, default=0.0))


def _relative(a: Array, b: Array) -> float:
    """Largest relative change of an entry, or of ⟨x, ax⟩ for a matrix."""
    if a.ndim == 2:
        half = root(a)
        return float(np.abs(np.linalg.solve(half, np.linalg.solve(half, b - a).T)).max())
    return float(np.abs(b / a - 1).max())


def _flow(subject: Subject, sample: Sample, g: Array, H: Array, C: Array) -> Any:
    """The central flow on the cubic loss, as `simulate` would run it."""
    from numerics import Problem
    from numerics.lowered import lower
    from numerics.processes import AveragedFlow, Context

    problem = Problem(_loss(g, H, C), _tensor(0 * g), blocks=subject.layout.blocks)
    lowered = lower(subject.d.emitted, sample["hyper"], subject.layout.blocks, problem.w0)
    shapes = subject.update.states
    given = {n: subject.layout.reduced(v, shapes[n].shape) for n, v in subject.accumulated(sample).items()}
    context = Context(problem, lowered, False, 0)
    return AveragedFlow(context, problem.w0, lowered.pack(given), "central", oscillates=True)


def _scaled(subject: Subject, sample: Sample) -> tuple[Array, Array, Array, float]:
    """Gradient, Hessian with critical modes at λ* in the first step's accumulators, and third derivative."""
    optimizer, before = subject.optimizer(sample["hyper"]), subject.accumulated(sample)
    rest = {m: np.zeros(subject.layout.n) for m in subject.filters}
    a, g = before, sample["g"]
    accumulator_rates(subject, subject.point(sample["hyper"], before, g=g))  # which discards what has no memory
    for _ in range(2):  # the gradient is scaled by P, which sees the gradient
        point = subject.point(sample["hyper"], a)
        P, threshold = subject.preconditioner(point), subject.threshold(point)
        # Along the slow modes only: along the critical one a gradient has died out before the flow is compared.
        slow = sample["basis"][:, CRITICAL:]
        g = RISE * root(P) @ (slow @ (slow.T @ sample["g"]))
        after = optimizer.step(0 * g, g, before | rest)[1]
        a = {n: after[n] for n in before}
    point = subject.point(sample["hyper"], a)
    P, threshold = subject.preconditioner(point), subject.threshold(point)
    fractions = [0.9999] * CRITICAL + [0.5 * f for f in sample["fractions"][CRITICAL:]]
    H = hessian(P, sample["basis"], [f * threshold for f in fractions])
    half = root(P)
    C = threshold * np.einsum("abc,ai,bj,ck->ijk", sample["cubic"], half, half, half)
    return g, H, C, threshold


def _loss(g: Array, H: Array, C: Array) -> Any:
    g_, H_, C_ = map(_tensor, (g, H, C))
    return lambda w: g_ @ w + w @ H_ @ w / 2 + ((C_ @ w) @ w) @ w / 6


def _tensor(x: Array) -> Any:
    import torch

    return torch.as_tensor(np.array(x))


def missing(subject: Subject) -> str | None:
    moving = any(subject.d.update.old(n) in subject.d.threshold.free_symbols for n in subject.accumulators)
    return "λ* moves in time" if moving else None


CLAIM = Claim("steps of the central flow keep λ ≤ λ* with X ⪰ 0", "(T11)", 6, inputs, holds, 8, missing)
