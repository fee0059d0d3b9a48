"""(T8): the optimizer's step, averaged over a period-2 oscillation on a random loss, is ẇ to O(δ⁴)."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree_to_order
from derivations.check.losses import ridges
from derivations.check.numbers import Array, times
from derivations.check.subject import Subject

SIZES = (0.08, 0.04, 0.02)


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "loss": ridges(n),
        "w": draw.vectors(n),
        "delta": draw.vectors(n),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    loss, delta, w = sample["loss"], sample["delta"], sample["w"]
    a = subject.accumulated(sample)
    g, q = loss.gradient(0 * delta), loss.third(delta, delta)
    P = subject.preconditioner(subject.point(sample["hyper"], a))
    flow = subject.d.flow
    derived, measured = [], []
    for s in SIZES:
        values = subject.point(sample["hyper"], a, w=w, g=g, q=s**2 * q, T=s**2 * q)
        whole, stable, per_X = (subject.layout.evaluate(e, values) for e in (flow.w_average, flow.w_stable, flow.w_X))
        derived += [np.concatenate([times(P, whole), times(P, stable + per_X)])]
        step = times(P, _average_step(subject, sample, a, s * delta))
        measured += [np.concatenate([step, step])]
    size = max(1.0, *(float(np.abs(m).max()) for m in measured), float(np.abs(times(P, w)).max()))
    return agree_to_order("P·E[w⁺ − w]", derived, measured, 4, 1e-10 * size)


def _average_step(subject: Subject, sample: Sample, a: dict[str, Array], delta: Array) -> Array:
    """E[w⁺ − w] over w ± δ, the loss expanded about w, accumulators held, filters oscillating for ever."""
    frozen, loss = subject.frozen(sample["hyper"], a), sample["loss"]
    up, down = loss.gradient(delta), loss.gradient(-delta)
    states = frozen.periodic((up + down) / 2, (up - down) / 2)
    w = sample["w"]
    steps = [
        frozen.step(w + d, before, g)[0] - (w + d)
        for d, g, before in ((delta, up, states[1]), (-delta, down, states[0]))
    ]
    return np.asarray(np.mean(steps, axis=0))


CLAIM = Claim("the step averages over ±δ to ẇ + O(δ⁴)", "(T4), (T8)", 4, inputs, holds, 40)
