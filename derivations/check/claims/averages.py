"""(T4), (T5): an accumulator's update, averaged over ±δ by brute force, is f̄ to O(δ⁴)."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree_to_order
from derivations.check.numbers import Array
from derivations.check.oscillations import average_update, oscillations, pair_sum
from derivations.check.subject import CODE, Subject
from theory.symbols import Quantity

SIZES = (1.0, 0.5, 0.25)


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return oscillations(subject, q=draw.vectors(subject.layout.n))


def holds(subject: Subject, sample: Sample) -> Evidence:
    before, g, C = subject.accumulated(sample), sample["g"], sample["root_of_X"]
    offset = {n: v for n, v in subject.states(sample["states"]).items() if n in subject.filters}
    measured = []
    for s in SIZES:
        flips = [s * (C[0, k] * sample["y"][0] + C[1, k] * sample["y"][1]) for k in range(2)]
        mean = g + s**2 * sample["q"] / 2
        measured.append(average_update(subject, sample["hyper"], before, mean, flips, offset))
    results, values = [], _mean_point(subject, sample, before, offset)
    for a in (subject.d.update.old(n) for n in subject.driven):
        derived = [_derived(subject, sample, values, a, s) for s in SIZES]
        floor = 1e-10 * max(1.0, float(abs(measured[0][str(a)]).max()))
        results.append(agree_to_order(f"the average of {a}", derived, [m[str(a)] for m in measured], 4, floor))
    orders = [e.order for e in results if e.order is not None]
    return Evidence(max(e.error for e in results), min(orders, default=None))


def _mean_point(
    subject: Subject, sample: Sample, before: dict[str, Array], offset: dict[str, Array]
) -> dict[sp.Symbol, Any]:
    """Values without oscillation: filter states are off their rest by a given amount before the step."""
    g, form = sample["g"], subject.d.normal_form
    ahead = subject.ahead(sample["hyper"], before)
    frozen = subject.frozen(sample["hyper"], ahead)
    rest = frozen.periodic(g, 0 * g)[0]
    old = {n: m + offset[n] for n, m in rest.items()}
    new = frozen.step(0 * g, old, g)[1]
    point = subject.point(sample["hyper"], ahead | old, g=g, q=sample["q"])
    return point | {output: new[str(m)] for m, output in form.outputs.items()}


def _derived(subject: Subject, sample: Sample, values: dict[sp.Symbol, Any], a: Quantity, size: float) -> Array:
    averages, layout, X = subject.d.averages, subject.layout, sample["root_of_X"] @ sample["root_of_X"].T

    def pair(y: Array, y2: Array) -> Array:
        return layout.evaluate(averages.oscillation[a], values | {CODE["y"]: y, CODE["y2"]: y2})

    second = pair_sum(X, sample["y"], pair) + layout.evaluate(averages.cross[a], values)
    mean: Array = layout.evaluate(averages.mean[a], values)
    return np.asarray(mean + size**2 * second)


CLAIM = Claim(
    "accumulators average over ±δ to f̄ + O(δ⁴)",
    "(T4), (T5)",
    3,
    inputs,
    holds,
    40,
    lambda subject: None if subject.driven else "no accumulators that see the gradient",
)
