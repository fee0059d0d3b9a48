"""(T6): loss and squared gradient norm, averaged over ±δ on a random loss, are as predicted to O(δ⁴)."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree_to_order
from derivations.check.losses import ridges
from derivations.check.subject import CODE, Subject

SIZES = (0.04, 0.02, 0.01)


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "loss": ridges(n),
        "delta": draw.vectors(n),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    loss, delta = sample["loss"], sample["delta"]
    point = subject.point(sample["hyper"], subject.accumulated(sample))
    threshold = subject.threshold(point)
    H, g, q = loss.hessian(), loss.gradient(0 * delta), loss.third(delta, delta)
    derived, measured = [], []
    for s in SIZES:
        step = s * delta
        # ½⟨H, Σ⟩ = ½λ* tr X for modes at the threshold.
        values = point | {CODE["g"]: g, CODE["q"]: s**2 * q, CODE["HSH"]: (H @ step) ** 2}
        values |= {s: _text(s.name, float(step @ H @ step) / threshold) for s in _texts(subject)}
        expected = subject.d.predictions
        norm = subject.layout.evaluate(expected["gradient_norm2"], values).sum()
        derived.append(np.array([subject.layout.number(expected["loss"], values), norm]))
        losses, norms = zip(
            *((loss.loss(x), float(loss.gradient(x) @ loss.gradient(x))) for x in (step, -step)), strict=True
        )
        measured.append(np.array([np.mean(losses), np.mean(norms)]))
    return agree_to_order("E[L] and E‖∇L‖²", derived, measured, 4, 1e-11 * max(1.0, float(np.abs(measured[0]).max())))


def _texts(subject: Subject) -> set[Any]:
    return {s for s in subject.d.predictions["loss"].free_symbols if s.name == "L" or "tr" in s.name}


def _text(name: str, trace: float) -> float:
    """The loss at the mean is 0; tr X as given."""
    return 0.0 if name == "L" else trace


CLAIM = Claim("E[L] and E‖∇L‖² are as predicted + O(δ⁴)", "(T5), (T6)", 3, inputs, holds, 20)
