r"""Section 1: one step is w⁺ = w − P⁻¹(Fg) − γw, with F realised from the coefficients of F(z) alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.numbers import Array, divided
from derivations.check.subject import Subject
from theory.symbols import z

STEPS = 6


def difference_equation(subject: Subject, point: dict[sp.Symbol, Any], gradients: list[Array]) -> list[Array]:
    """The output of F for these inputs: D(z)y = N(z)g, from rest."""
    numerator, denominator = (sp.Poly(p, z).all_coeffs() for p in sp.fraction(sp.together(subject.d.filter)))
    b, c = ([subject.layout.number(x, point) for x in p] for p in (numerator, denominator))
    delay = len(c) - len(b)
    outputs: list[Array] = []
    for t in range(len(gradients)):
        driven = sum((x * gradients[t - i - delay] for i, x in enumerate(b) if t - i - delay >= 0), 0 * gradients[0])
        past = sum((x * outputs[t - i] for i, x in enumerate(c) if 0 < i <= t), 0 * gradients[0])
        outputs.append((driven - past) / c[0])
    return outputs


def held_accumulators(subject: Subject) -> set[str]:
    """Accumulators that F assumes frozen: those it depends on, or all where it acts on the preconditioned gradient."""
    if subject.d.rule.slow_preconditioner:
        return set(subject.accumulators)
    return {n for n in subject.accumulators if subject.d.update.old(n) in subject.d.filter.free_symbols}


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "w": draw.vectors(n),
        "gradients": draw.vectors(n, STEPS),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    optimizer = subject.optimizer(sample["hyper"])
    a = subject.accumulated(sample)
    held = {n: a[n] for n in held_accumulators(subject)}
    frozen = subject.frozen(sample["hyper"], a)
    start = frozen.before()
    states, w, worst = start | frozen.rest(), sample["w"], 0.0
    outputs = difference_equation(subject, subject.point(sample["hyper"], a), sample["gradients"])
    for g, y in zip(sample["gradients"], outputs, strict=True):
        now = states | {n: start[n] for n in held}
        raw = {n: now[n] / frozen.scale(n, now) for n in subject.filters}
        w_next, after = optimizer.step(w, g, now | raw, held)
        point = subject.point(sample["hyper"], after)
        P, gamma = subject.preconditioner(point), subject.layout.evaluate(subject.d.normal_form.gamma, point)
        step = -divided(y, P) - gamma * w
        worst = max(worst, agree("w⁺ − w", step, w_next - w, scale=1e-6 * float(np.abs(w).max())))
        states = after | {n: after[n] * frozen.scale(n, after) for n in subject.filters}
        w = w_next
    return Evidence(worst)


CLAIM = Claim("the discrete step is −P⁻¹(Fg) − γw, F a difference equation", "section 1", 1, inputs, holds, 50)
