"""Section 4: lag, feedthrough and start of the one-pole filter, from the optimizer's response to steps and ramps."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.numbers import Array, times
from derivations.check.subject import Subject

LONG = 500  # 0.95^500 is round-off


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    start = st.fixed_dictionaries({m: draw.vectors(n) for m in subject.filters})
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "filters": start,
        "g": draw.nonzero(n),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    form, layout, g = subject.d.normal_form, subject.layout, sample["g"]
    a = subject.accumulated(sample)
    point = subject.point(sample["hyper"], a | sample["filters"], g=g)
    zero = np.zeros(layout.n)
    frozen = subject.frozen(sample["hyper"], a)
    P = subject.preconditioner(point)

    def drives(filters: dict[str, Array], gradients: list[Array]) -> list[Array]:
        outputs = []
        for gradient in gradients:
            step, filters = frozen.step(zero, filters, gradient)
            outputs.append(-times(P, step))
        return outputs

    first = drives(frozen.rest(), [g])[0]
    errors = [agree("F(∞)·g", layout.evaluate(form.feedthrough, point) * g, first, scale=1e-3)]
    ramp = drives(frozen.rest(), [t * g for t in range(LONG)])[-1]
    lag = layout.number(form.lag, point)
    errors.append(agree("lag", lag, float(np.median(LONG - 1 - ramp / g)) + 0.5, scale=1e-3 * LONG))
    excess = sum(o - g for o in drives(dict(sample["filters"]), [g] * LONG))
    start = layout.evaluate(form.pole_start, point)
    draw.require(abs(lag) > 1e-3)
    errors.append(agree("total relaxation of the one-pole filter", lag * (start - g), excess, scale=1.0))
    return Evidence(max(errors))


CLAIM = Claim(
    "lag, feedthrough and start of the one-pole filter",
    "section 4",
    4,
    inputs,
    holds,
    6,
    lambda subject: None if subject.filters else "no filter states",
)
