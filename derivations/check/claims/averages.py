"""(T4), (T5): an accumulator's update, averaged over ±δ by brute force, is f̄ to O(δ⁴)."""

from __future__ import annotations

from typing import Any

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
    measured = []
    for s in SIZES:
        flips = [s * (C[0, k] * sample["y"][0] + C[1, k] * sample["y"][1]) for k in range(2)]
        measured.append(average_update(subject, sample["hyper"], before, g + s**2 * sample["q"] / 2, flips))
    results = []
    for a in subject.d.normal_form.accumulators:
        derived = [_derived(subject, sample, before, a, s) for s in SIZES]
        scale = 1e-12 * max(1.0, float(abs(measured[0][str(a)]).max()))
        results.append(agree_to_order(f"the average of {a}", derived, [m[str(a)] for m in measured], 4, 100 * scale))
    orders = [e.order for e in results if e.order is not None]
    return Evidence(max(e.error for e in results), min(orders, default=None))


def _derived(subject: Subject, sample: Sample, before: dict[str, Array], a: Quantity, size: float) -> Array:
    averages, layout, X = subject.d.averages, subject.layout, sample["root_of_X"] @ sample["root_of_X"].T
    point = subject.point(sample["hyper"], before, g=sample["g"], q=sample["q"])
    mean = averages.mean[a].xreplace(averages.settle)
    oscillating, cross = (e.xreplace(averages.settle) for e in (averages.oscillation[a], averages.cross[a]))
    pair = lambda y, y2: layout.evaluate(oscillating, point | {CODE["y"]: y, CODE["y2"]: y2})  # ruff: ignore[lambda-assignment]
    second = pair_sum(X, sample["y"], pair) + layout.evaluate(cross, point)
    return layout.evaluate(mean, point) + size**2 * layout.vector(second)


CLAIM = Claim(
    "accumulators average over ±δ to f̄ + O(δ⁴)",
    "(T4), (T5)",
    3,
    inputs,
    holds,
    40,
    lambda subject: None if subject.accumulators else "no accumulators",
)
