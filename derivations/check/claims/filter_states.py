"""Section 1: filter states and drive of the normal form are the optimizer's own, also while accumulators move."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.numbers import divided
from derivations.check.subject import Subject
from theory.symbols import g as g_symbol


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "w": draw.vectors(n),
        "gradients": draw.vectors(n, 3),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    form, layout = subject.d.normal_form, subject.layout
    optimizer, w, worst = subject.optimizer(sample["hyper"]), sample["w"], 0.0
    states = subject.states(sample["states"])
    for g in sample["gradients"]:
        before = subject.frozen(sample["hyper"], states)
        w_next, after = optimizer.step(w, g, states)
        behind = subject.frozen(sample["hyper"], after)
        old = {n: states[n] * before.scale(n, states) for n in subject.filters}
        new = {n: after[n] * behind.scale(n, after) for n in subject.filters}
        point = subject.point(sample["hyper"], {n: after[n] for n in subject.accumulators} | old, g=g)
        for m, expr in form.filters.items():
            worst = max(worst, agree(f"the next value of {m}", layout.evaluate(expr, point), new[str(m)]))
        point |= {form.outputs[m]: new[str(m)] for m in form.filters} | {g_symbol: g}
        P, gamma = subject.preconditioner(point), layout.evaluate(form.gamma, point)
        step = -divided(layout.evaluate(form.drive, point), P) - gamma * w
        worst = max(worst, agree("w⁺ − w", step, w_next - w, scale=1e-6 * float(np.abs(w).max())))
        states, w = after, w_next
    return Evidence(worst)


CLAIM = Claim("the normal form's states are the optimizer's", "section 1", 1, inputs, holds, 30)
