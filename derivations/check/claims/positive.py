"""Section 1: P is positive and F has unit gain along what the optimizer visits."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree, refute
from derivations.check.numbers import as_matrix
from derivations.check.subject import Subject
from theory.symbols import z


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "gradients": draw.nonzero(subject.layout.n, 4),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    optimizer = subject.optimizer(sample["hyper"])
    states, w, worst = optimizer.initial(), np.zeros(subject.layout.n), 0.0
    for g in sample["gradients"]:
        w, states = optimizer.step(w, g, states)
        draw.require(np.isfinite(w).all())
        point = subject.point(sample["hyper"], states)
        P = subject.layout.evaluate(subject.d.preconditioner, point)
        if not (np.linalg.eigvalsh(as_matrix(P)) > 0).all():
            refute("the preconditioner must be positive", P, "P > 0")
        gain = subject.layout.number(subject.d.filter.subs(z, 1), point)
        worst = max(worst, agree("F(1)", gain, 1.0))
    return Evidence(worst)


CLAIM = Claim("P ≻ 0 and F(1) = 1 along the run", "section 1", 1, inputs, holds, 20)
