"""Section 2: the ripple's relative sizes, from the optimizer's accumulators that alternate with the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.numbers import Array
from derivations.check.subject import CODE, Subject
from theory.symbols import Shape, z

STEP = 1e-5
TOLERANCE = 1e-5  # central differences


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject, first=2),
        "g": draw.nonzero(subject.layout.n),
        "size": st.integers(1, 16).map(lambda k: k / 8),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    """Along the gradient, y = κg, both sizes are the swing of P⁻¹: by F(−1)⁻¹ and by κ²F(−1)."""
    a, g, size = subject.accumulated(sample), sample["g"], sample["size"]
    ahead = subject.ahead(sample["hyper"], a)
    point = subject.point(sample["hyper"], ahead, g=g, y=size * g)
    P, layout = subject.preconditioner(point), subject.layout
    swing = _swing(subject, sample, a) / P
    at_flip = layout.evaluate(subject.d.filter.subs(z, -1), point)
    draw.require(np.isfinite(swing).all() and (np.abs(at_flip) > 1e-3).all() and np.abs(swing).max() < 1e3)
    expected = {"threshold": swing / at_flip, "drift": size**2 * swing * at_flip}
    ripple = subject.d.ripple
    errors = [
        agree(f"the ripple's {n}", layout.evaluate(getattr(ripple, n), point | {CODE["g"]: g}), x, TOLERANCE, 1e-2)
        for n, x in expected.items()
    ]
    return Evidence(max(errors))


def _swing(subject: Subject, sample: Sample, a: dict[str, Array]) -> Array:
    """The change of P per relative change of a gradient that alternates about g, and the accumulators with it."""
    names, n = subject.driven, subject.layout.n
    shapes = subject.update.states

    def after(shift: dict[str, Array], flip: float) -> dict[str, Array]:
        return _step(subject, sample, {x: v + shift.get(x, 0.0) for x, v in a.items()}, flip)

    def slope(plus: dict[str, Array], minus: dict[str, Array]) -> Array:
        return np.concatenate([(plus[x] - minus[x]) / (2 * STEP) for x in names] or [np.zeros(0)])

    force = slope(after({}, STEP), after({}, -STEP))
    columns = []
    for x in names:
        for unit in np.eye(n):
            # An accumulator that is shared moves as one: the unit vector of its first coordinate stands for all.
            shift = STEP * subject.layout.shaped(unit, shapes[x].shape)
            columns.append(slope(after({x: shift}, 0.0), after({x: -shift}, 0.0)))
    memory = np.array(columns).T.reshape(len(force), len(force))
    change = np.linalg.solve(np.eye(len(force)) + memory, force).reshape(len(names), n)
    moved = [{x: a[x] + s * STEP * change[k] for k, x in enumerate(names)} for s in (1, -1)]
    points = [subject.point(sample["hyper"], subject.ahead(sample["hyper"], a) | m) for m in moved]
    up, down = (subject.layout.evaluate(subject.d.preconditioner, p) for p in points)
    return np.asarray((up - down) / (2 * STEP))


def _step(subject: Subject, sample: Sample, before: dict[str, Array], flip: float) -> dict[str, Array]:
    """Accumulators after a step with the gradient (1 + flip)g, whose flip has changed sign each step for ever."""
    optimizer = subject.optimizer(sample["hyper"])
    frozen = subject.frozen(sample["hyper"], subject.ahead(sample["hyper"], before))
    g = sample["g"]
    filters = frozen.periodic(g, flip * g)[1]
    raw = {n: m / frozen.scale(n, before) for n, m in filters.items()}
    return optimizer.step(0 * g, (1 + flip) * g, dict(before) | raw)[1]


def _unfit(subject: Subject) -> str | None:
    if subject.d.normal_form.shape is Shape.MATRIX:
        return "P is a matrix, whose ripple has no size per coordinate"
    return None if subject.driven else "no accumulators that see the gradient"


CLAIM = Claim(
    "the ripple's sizes are the swing of P⁻¹ with the gradient",
    "section 2",
    2,
    inputs,
    holds,
    20,
    _unfit,
)
